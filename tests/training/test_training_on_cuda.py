"""Training on the pretend GPU is training on the CPU, bit for bit, without mixed devices."""

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from alps.training.callbacks import EMAWeightAveraging
from tests.pretend_cuda import CUDA, PretendCuda
from tests.training.tiny_runs import ColoredBlocks, Losses, tiny_data, tiny_task, tiny_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",  # Lightning on torch 2.15
    "ignore:.*does not have many workers",
    "ignore:GPU available but not used",  # as an accelerator of Lightning
)
SETS = {
    "large": ColoredBlocks(n=8, val=2),
    "small": ColoredBlocks(n=5, val=2, num_classes=2, ignore_index=7),
}


class PretendAccelerator(CPUAccelerator):
    """Accepts the pretend device."""

    def setup_device(self, device):
        assert device == CUDA


def fit(folder, place, images=None, callbacks=list, **options):
    """Train two steps and validate; return losses, scores and weights."""
    losses = Losses()
    task = tiny_task(images, **options)
    trainer = tiny_trainer(folder, 2, [losses, *callbacks()], **place)
    trainer.fit(task, datamodule=tiny_data(images, batch_size=2))
    weights = {name: value.cpu() for name, value in task.state_dict().items()}
    return losses.values, task.mean("mIoU"), weights


def check(folder, **options):
    """Compare a run on the pretend GPU with one on the CPU."""
    losses, score, weights = fit(folder, {"accelerator": "cpu"}, **options)
    with PretendCuda(backward=True):
        strategy = SingleDeviceStrategy(device=CUDA)
        on_gpu = fit(folder, {"accelerator": PretendAccelerator(), "strategy": strategy}, **options)
    assert on_gpu[:2] == (losses, score)
    assert all(torch.equal(on_gpu[2][name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    "encoder",
    [
        "resnet18",
        "tf_efficientnet_lite0",
        "convnext_atto",
        "swin_tiny_patch4_window7_224",
        "vit_tiny_patch16_224",
    ],
)
def test_nets(tmp_path, encoder):
    check(tmp_path, encoder=encoder, images=ColoredBlocks(n=6, val=2))


def test_two_datasets_and_an_auxiliary_head(tmp_path):
    check(tmp_path, images=SETS, aux=True)


def test_averaged_weights(tmp_path):
    check(tmp_path, callbacks=lambda: [EMAWeightAveraging(decay=0.9)])
