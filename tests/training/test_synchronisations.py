"""How often a training step waits for the device.

Counted on the CPU: each value that Python reads from a tensor, each result whose size depends on
values, and each copy of Python values to the device is a wait on a GPU.
"""

from collections import Counter

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from alps.training.callbacks import EMAWeightAveraging, LearningRates, ProgressBar, Speed
from alps.training.data import SegmentationData
from alps.training.joint import JointData
from alps.training.losses import CrossEntropy
from alps.training.stopping.interrupt import Interrupt
from tests.programs import LIGHTNING_WARNINGS
from tests.training.tiny_runs import ColoredBlocks, tiny_task, tiny_trainer

pytestmark = LIGHTNING_WARNINGS

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2"}
READS = ("cpu", "numpy", "tolist")


class Synchronisations(TorchDispatchMode):
    """Counts the waits for a GPU, as if what is not made of Python values were on it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.host = WeakTensorKeyDictionary()  # tensors that are on the CPU beside a GPU, too

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in READS:
            self.patch.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))
        self.patch.setattr(torch, "tensor", self._created(torch.tensor))
        return super().__enter__()

    def __exit__(self, *error):
        self.patch.undo()
        return super().__exit__(*error)

    def _counted(self, read):
        def call(tensor, *args, **options):
            if tensor not in self.host:
                self.counts[read.__name__] += 1
            result = read(tensor, *args, **options)
            if result is tensor:  # on a GPU it would be a copy
                result = tensor.clone()
                self.host[result] = True
            return result

        return call

    def _created(self, create):
        def call(*args, device=None, **options):
            tensor = create(*args, device=device, **options)
            if device is not None:
                self.counts["copy to the device"] += 1
                self.host.pop(tensor, None)
            return tensor

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        created = name in ("lift_fresh", "random_")  # of Python values, and as a loader's seed
        on_host = created or (tensors and all(t in self.host for t in tensors))
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if not on_host and (name in WAITS or by_mask):
            self.counts[name] += 1
        result = func(*args, **(kwargs or {}))
        if on_host:
            self.host.update({t: True for t in tree_leaves(result) if isinstance(t, torch.Tensor)})
        return result


class Training(Callback):
    """The waits from the start of training to the first validation."""

    def __init__(self, mode) -> None:
        self.mode = mode
        self.by_step: list[Counter[str]] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.mode.counts.clear()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.by_step.append(self.mode.counts.copy())
        self.mode.counts.clear()

    def on_validation_start(self, trainer, pl_module) -> None:
        self.by_step.append(self.mode.counts.copy())


def sets(names):
    images = {name: ColoredBlocks(n=8 + i) for i, name in enumerate(names)}
    return images or ColoredBlocks()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("names", "encoder", "aux", "ema"),
    [((), "test_resnet", True, False), (("a", "b"), "test_vit", False, True)],
)
def test_a_training_step_waits_for_the_device_once_at_most(tmp_path, names, encoder, aux, ema):
    images = sets(names)
    kind = JointData if names else SegmentationData
    # In a process of its own a loader waits for nothing here.
    data = kind(images, batch_size=4, crop=64, num_workers=1)
    mode = Synchronisations()
    training = Training(mode)
    average = [EMAWeightAveraging()] if ema else []
    trainer = tiny_trainer(
        tmp_path,
        20,
        [training, *average, Speed(), LearningRates(), ProgressBar(), Interrupt(tmp_path)],
        val_check_interval=20,
        log_every_n_steps=10,
        gradient_clip_val=1.0,
        precision="bf16-mixed",
        enable_progress_bar=True,
        logger=CSVLogger(tmp_path),
    )
    with mode:
        trainer.fit(tiny_task(images, encoder=encoder, aux=aux), datamodule=data)
    assert len(training.by_step) == 21
    waits = [step.total() for step in training.by_step]
    assert [n for n in waits if n] == [1, 1], training.by_step[-1]  # the losses of ten steps


def test_it_counts_what_waits():
    with Synchronisations() as mode:
        values = torch.arange(4.0)
        host = torch.tensor(1.0).clone()
        host.item()
        created = torch.tensor(1.0, device="cpu")
        for wait in (
            lambda: bool(values.sum() > 1),
            lambda: values.tolist(),
            lambda: values[values > 1],
            lambda: torch.tensor(1.0, device="cpu"),
            lambda: created.item(),
            lambda: values.cpu(),
            lambda: (values + host)[0].item(),
        ):
            before = mode.counts.total()
            wait()
            assert mode.counts.total() == before + 1


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_the_loss_of_unlabelled_pixels_waits_for_nothing(weights):
    criterion = CrossEntropy(ignore_index=255, class_weights=weights)
    logits = torch.randn(2, 3, 8, 8)
    target = torch.randint(0, 3, (2, 8, 8))
    target[0, :4] = 255
    expected = torch.nn.functional.cross_entropy(
        logits, target, ignore_index=255, weight=criterion.weight
    )
    with Synchronisations() as mode:
        loss = criterion(logits, target)
    assert mode.counts.total() == 0
    torch.testing.assert_close(loss, expected)
