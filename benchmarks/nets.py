"""Compare a training step of ALPS and segmentation_models_pytorch, by size and layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

import numpy as np
import segmentation_models_pytorch as smp
import torch
from hydra import compose, initialize_config_dir
from jaxtyping import Float, UInt8
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from alps.cli.build import build_model
from alps.cli.program import CONF
from alps.datasets.segmentation import Batch
from alps.models.segmentation import SegmentationModel
from alps.training.losses import CrossEntropy
from benchmarks.measure import Spread, interleave, ratio, show

NUM_CLASSES = 6
#: smp's nets as they come, and ours made as wide.
PEERS = {
    "unet": (smp.Unet, ()),
    "upernet": (smp.UPerNet, ("head.channels=256",)),
    "fpn": (smp.FPN, ("head.dropout=0.2",)),
}
#: A net for a laptop, and one with almost three times its weights.
NETS = {
    "lite0 + upernet": ("model=efficientnet_lite0", "head=upernet", "head.channels=128"),
    "resnet18 + unet": ("model=resnet18", "head=unet"),
}
Net = Callable[[UInt8[Tensor, "B 3 H W"]], Float[Tensor, "B K H W"]]


def configuration(*overrides: str) -> DictConfig:
    """Compose the configuration of train.py without validation and loggers."""
    callbacks = (f"~callbacks.{name}" for name in ("checkpoint", "score_lines", "pictures"))
    plain = ("stage=finetune", "init=null", "logger=none", "+trainer.limit_val_batches=0")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*plain, *callbacks, "run=unused", *overrides])


def loop(
    net: Net,
    batches: Iterable[Batch],
    loss: nn.Module,
    optimizer: Optimizer,
    schedule: LambdaLR,
    *,
    device: str | torch.device = "cpu",
    bf16: bool = False,
) -> Iterator[Tensor]:
    """Run a plain training loop; yield the loss after every step."""
    device = torch.device(device)
    for batch in batches:
        image = batch.image.to(device, non_blocking=True)
        target = batch.target.to(device, non_blocking=True).long()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss(net(image), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        yield value.detach()


def learner(model: nn.Module, net: Net, crop: int, batch: int) -> Callable[[], Tensor]:
    """Return a function that runs one step of the loop on noise that is already in memory."""
    optimizer = AdamW(model.train().parameters(), lr=1e-4)
    schedule = LambdaLR(optimizer, lambda _: 1.0)
    image = torch.randint(0, 256, (batch, 3, crop, crop), dtype=torch.uint8)
    target = torch.randint(0, NUM_CLASSES, (batch, crop, crop), dtype=torch.uint8)
    batches = repeat(Batch(image, target, [], (batch,)))
    return loop(net, batches, CrossEntropy(ignore_index=255), optimizer, schedule).__next__


def our_net(*overrides: str) -> SegmentationModel:
    model = build_model(configuration(*overrides), NUM_CLASSES)
    assert isinstance(model, SegmentationModel)
    return model


def of_ours(model: SegmentationModel, crop: int, batch: int) -> Callable[[], Tensor]:
    return learner(model, lambda image: model(image).logits, crop, batch)


def of_smp(
    model: nn.Module, like: SegmentationModel, crop: int, batch: int
) -> Callable[[], Tensor]:
    """Wrap a network of smp, which expects normalised images."""
    return learner(model, lambda image: model((image - like.mean) / like.std), crop, batch)


def warm(peers: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds per step and round, after a warm-up round."""
    interleave(peers, 1)
    return interleave(peers, rounds)[1]


def against_smp(crop: int, batch: int, rounds: int) -> None:
    """Compare equal encoders and similar heads; those of smp in both memory layouts."""
    rows = []
    for head, (build, overrides) in PEERS.items():
        model = our_net("model=resnet18", f"head={head}", *overrides)
        peers = {f"{head}, ours": (model, of_ours(model, crop, batch))}
        for layout in ("contiguous_format", "channels_last"):
            other = build("resnet18", encoder_weights=None, classes=NUM_CLASSES)
            other.to(memory_format=getattr(torch, layout))
            name = f"{head}, smp, {layout}"
            peers[name] = (other, of_smp(other, model, crop, batch))
        seconds = warm({name: run for name, (_, run) in peers.items()}, rounds)
        best = seconds[f"{head}, ours"]
        for name, spent in seconds.items():
            parameters = sum(p.numel() for p in peers[name][0].parameters()) / 1e6
            speed = Spread.of(batch / np.array(spent))
            rows.append([name, f"{parameters:.1f}", speed, ratio(spent, best)])
    columns = ["", "parameters, M", "images per CPU s", "ours is x as fast"]
    show(f"resnet18, crop {crop}, batch {batch}: {rounds} rounds", columns, rows)


def by_size(batch: int, rounds: int) -> None:
    """Compare squares of several sizes in both memory layouts."""
    rows = []
    for name, overrides in NETS.items():
        first = 0.0
        for crop in (96, 128, 192, 256):
            last, planar = our_net(*overrides), our_net(*overrides)
            planar.to(memory_format=torch.contiguous_format)
            planar.encoder.register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
            peers = {"last": of_ours(last, crop, batch), "planar": of_ours(planar, crop, batch)}
            spent = warm(peers, rounds)
            both = [Spread.of(1000 / batch * np.array(x)) for x in spent.values()]
            pixel = both[0].median / crop**2
            first = first or pixel
            row = [f"{name}, {crop}", *both, ratio(spent["planar"], spent["last"])]
            rows.append([*row, f"{pixel / first:.2f}"])
    columns = ["CPU ms an image", "channels_last", "contiguous", "x", "ms a pixel, 96 = 1"]
    show(f"Crop sizes, batch {batch}: {rounds} rounds", columns, rows)
