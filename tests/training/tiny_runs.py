"""Runs that take a second: a tiny net on images of noise in which the class is the colour."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from alps.models.heads.fcn import FCN
from alps.models.heads.fpn import FPN
from alps.models.segmentation import SegmentationModel
from alps.prediction.sliding import SlidingWindow
from alps.pretrained.encoder import Encoder
from alps.structures.records import Category, ImageRecord, Sample
from alps.training.data import SegmentationData
from alps.training.joint import JointData
from alps.training.losses import CrossEntropy
from alps.training.optim import Optim
from alps.training.subject import Subject
from alps.training.task import SegmentationTask

#: Warnings of Lightning about runs this small.
RUN_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",  # Lightning on torch 2.15
    "ignore:.*does not have many workers",
    "ignore:You're resuming from a checkpoint that ended before",  # our batches are resumable
    "ignore:Checkpoint directory .* exists",
)
COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)


class ColoredBlocks:
    """Images of coloured blocks; the label is which colour, a tenth of it unlabelled."""

    name = "blocks"
    root = "memory"

    def __init__(
        self,
        n: int = 12,
        size: tuple[int, int] = (64, 64),
        val: int = 4,
        num_classes: int = 3,
        ignore_index: int = 255,
    ) -> None:
        self.n, self.size, self.val = n, size, val
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.protocol = f"blocks: {num_classes} classes"

    def records(self) -> list[ImageRecord]:
        splits = ["train"] * (self.n - self.val) + ["val"] * self.val
        return [ImageRecord(f"{i:03d}", f"{i:03d}.png", s) for i, s in enumerate(splits)]

    def categories(self) -> list[Category]:
        return [Category(i, f"colour {i}", tuple(c.tolist())) for i, c in enumerate(self._colors)]

    @property
    def _colors(self) -> np.ndarray:
        return COLORS[: self.num_classes]

    def _labels(self, record: ImageRecord) -> tuple[np.ndarray, np.random.Generator]:
        rng = np.random.default_rng(int(record.image_id))
        height, width = self.size
        coarse = rng.integers(0, self.num_classes, (height // 16, width // 16), dtype=np.uint8)
        return coarse.repeat(16, 0).repeat(16, 1), rng

    def read(self, record: ImageRecord) -> Sample:
        labels, rng = self._labels(record)
        noise = rng.normal(scale=8, size=(*labels.shape, 3))
        image = np.clip(COLORS[labels] + noise, 0, 255).astype(np.uint8)
        return Sample(record.image_id, image)

    def read_target(self, record: ImageRecord) -> np.ndarray:
        labels, rng = self._labels(record)
        # More of it in some images than in others, so that processes differ in what they count.
        labels[rng.random(labels.shape) < 0.02 * int(record.image_id)] = self.ignore_index
        return labels


def tiny_task(
    images: ColoredBlocks | Mapping[str, ColoredBlocks] | None = None,
    lr: float = 1e-3,
    encoder: str = "test_resnet",
    dropout: float = 0.1,
    aux: bool = False,
    **options,
) -> SegmentationTask:
    """Seeded: two calls give equal weights."""
    seed_everything(0, verbose=False)
    sets = images if isinstance(images, Mapping) else {"": images or ColoredBlocks()}
    trunk = Encoder(encoder)
    head = FPN(trunk.channels, channels=32, pyramid_channels=32, dropout=dropout)
    sizes = {name: len(images.categories()) for name, images in sets.items()}
    model = SegmentationModel(
        trunk,
        head,
        num_classes=sizes.get("", sizes),
        aux_head=FCN(trunk.channels, channels=8) if aux else None,
    )
    return SegmentationTask(
        model=model,
        subjects=[
            Subject.of(images, name, loss=CrossEntropy(ignore_index=images.ignore_index))
            for name, images in sets.items()
        ],
        window=SlidingWindow(crop=64),
        optim=Optim(
            optimizer=partial(torch.optim.AdamW, fused=True), lr=lr, weight_decay=0.05, warmup=0.1
        ),
        config="seed: 0",
        **options,
    )


def tiny_data(
    images: ColoredBlocks | Mapping[str, ColoredBlocks] | None = None, batch_size: int = 4
) -> SegmentationData | JointData:
    if isinstance(images, Mapping):
        return JointData(images, batch_size=batch_size, num_workers=0)
    return SegmentationData(images or ColoredBlocks(), batch_size=batch_size, num_workers=0)


def tiny_trainer(
    folder: Path, steps: int = 4, callbacks: list[Callback] | None = None, **options
) -> Trainer:
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": steps,
        "max_epochs": -1,
        "val_check_interval": 2,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks or []),
        "logger": False,
        "log_every_n_steps": 1,
        "default_root_dir": folder,
    }
    return Trainer(**{**settings, **options}, callbacks=callbacks or [])


class Losses(Callback):
    """The loss of every step, averaged over the processes."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append(float(trainer.strategy.reduce(outputs["loss"].clone())))
