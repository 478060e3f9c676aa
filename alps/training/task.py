"""Lightning module: training on crops and scoring on whole images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer

import alps
from alps.datasets.segmentation import Batch, Example
from alps.errors import DivergedError
from alps.models.segmentation import SegmentationModel
from alps.prediction.sliding import BUFFER, SlidingWindow, most_probable
from alps.structures.tiles import Tile
from alps.training.lightning_private import batch_index, logs_step
from alps.training.optim import Optim
from alps.training.recent_losses import REMEDY, RecentLosses
from alps.training.subject import MEANS, Part, Subject

logger = logging.getLogger(__name__)


class SegmentationTask(LightningModule):
    """Trains a model on batches of crops and scores it on whole images.

    With several datasets the losses are summed (SAMRS, arXiv 2305.02034 §4). Each dataset is
    scored on its own classes, and ``val/mIoU`` is the mean over the datasets.

    Args:
        model: the model.
        subjects: classes of each dataset, in the order of the model's classifiers.
        window: sliding window for whole images; the means of the model's bands replace its
            ``fill``.
        optim: builds the optimiser and its schedule; None without training.
        aux_weight: weight of the loss of an auxiliary head (0.4 as in PSPNet, arXiv 1612.01105,
            section 3.3).
        config: resolved configuration as YAML, saved in every checkpoint.
        seed: random seed of dropout and stochastic depth, combined with the batch number.
    """

    def __init__(
        self,
        *,
        model: SegmentationModel,
        subjects: Sequence[Subject],
        window: SlidingWindow,
        optim: Optim | None = None,
        aux_weight: float = 0.4,
        config: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.subjects = tuple(subjects)
        # Registered so that the losses move to the device. Confusion matrices are not buffers,
        # because weight averaging would average them.
        self.losses = nn.ModuleList(s.loss for s in subjects if s.loss is not None)
        statistics = model.statistics
        self.window = window if statistics is None else replace(window, fill=statistics.mean)
        self.optim = optim
        self.aux_weight = aux_weight
        self.config = config
        self.seed = seed
        self.recent_losses = RecentLosses()
        self._labelled: Tensor | None = None  # labelled pixels that this process has trained on

    def mean(self, name: str) -> float:
        """Return the mean of a score over all datasets, or NaN before the first validation."""
        values = [getattr(s.scores, name) for s in self.subjects if s.scores is not None]
        return torch.tensor(values).nanmean().item()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed torch per batch, so that a resumed run draws the same numbers."""
        spawn = (batch_index(self.trainer), self.trainer.global_rank)
        sequence = np.random.SeedSequence(self.seed, spawn_key=spawn)
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        The losses are read and logged every ``trainer.log_every_n_steps`` steps, because the
        program waits for the GPU whenever it reads one.

        Raises:
            DivergedError: a loss since the last reading is not finite.
        """
        loss = torch.zeros((), device=self.device)
        outputs = self.model(batch.image, batch.counts)
        targets = torch.split(batch.target.long(), list(batch.counts))
        labelled = torch.zeros((), dtype=torch.int64, device=self.device)
        parts = zip(self.subjects, self.losses, outputs, targets, strict=True)
        for subject, criterion, output, target in parts:
            labelled = labelled + (target != subject.ignore_index).sum()
            loss = loss + criterion(output.logits, target)
            if output.aux is not None:
                loss = loss + self.aux_weight * criterion(output.aux, target)
        self._labelled = labelled if self._labelled is None else self._labelled + labelled
        self.recent_losses.add(loss, self.global_step, batch_idx, batch.image_ids)
        if logs_step(self.trainer):
            self.recent_losses.read(self.trainer.strategy)
            self.log("train/loss", torch.tensor(self.recent_losses.last))  # not on the device
        return loss

    def validation_step(
        self, batch: list[Example], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the pixels of whole images of one dataset."""
        self._count(batch, dataloader_idx)

    def test_step(self, batch: list[Example], batch_idx: int) -> None:
        """Count the pixels of whole images."""
        self._count(batch, 0)

    def on_validation_epoch_start(self) -> None:
        """Check the losses and the weights, and reset the counts of pixels.

        Raises:
            DivergedError: a loss or a weight is not finite.
        """
        self._check_divergence()
        if self._labelled is not None and not self._sum_over_processes(self._labelled):
            rank_zero_only(logger.warning)(
                "no pixel of the steps up to %d was labelled, so train/loss is 0 and the weights "
                "have not changed; check the labels and no-data pixels of the split train",
                self.global_step,
            )
        self._reset()

    def on_test_epoch_start(self) -> None:
        """Reset the counts of pixels."""
        self._reset()

    def on_validation_epoch_end(self) -> None:
        """Log the scores over all processes."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores over all processes."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule, which advances once per optimiser step."""
        assert self.optim is not None
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = self.optim.build(self.model, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, including those of a fused optimiser in mixed precision.

        Lightning rejects this combination because a fused optimiser unscales gradients in its step,
        after clipping. With bfloat16, gradients are not scaled. With float16, this method unscales
        them before clipping, which `GradScaler.step` takes into account.
        """
        if not gradient_clip_val:
            return
        precision = self.trainer.precision_plugin
        scaler = getattr(precision, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
        Precision.clip_gradients(precision, optimizer, gradient_clip_val, algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, classes, evaluation protocol and view of the weights.

        Raises:
            DivergedError: a loss or a weight is not finite, so there is nothing worth saving.
        """
        self._check_divergence()
        specs = {
            subject.name: {
                "categories": [(c.id, c.name, c.color) for c in subject.categories],
                "ignore_index": subject.ignore_index,
                "protocol": subject.protocol,
                "fingerprint": subject.fingerprint,
                **({} if subject.view is None else {"view": subject.view.to_json()}),
            }
            for subject in self.subjects
        }
        checkpoint["alps"] = {
            "version": alps.__version__,
            "config": self.config,
            **specs.get("", {"datasets": specs}),
            "crop": self.window.crop,
        }
        if self.model.band_names is not None:
            checkpoint["alps"]["bands"] = list(self.model.band_names)

    def _check_divergence(self) -> None:
        self.recent_losses.read(self.trainer.strategy)
        finite = torch.stack([parameter.isfinite().all() for parameter in self.model.parameters()])
        if not finite.all():
            raise DivergedError(f"weights are not finite after step {self.global_step}; {REMEDY}")

    def _count(self, batch: list[Example], dataset: int) -> None:
        for example, parts in zip(batch, self._predict(batch, dataset), strict=True):
            self.subjects[dataset].count(example, parts)

    def _predict(self, batch: list[Example], dataset: int) -> Iterator[Iterable[Part]]:
        """Yield the predicted classes of each image; large images in bands, to limit memory."""
        net = partial(self._logits, dataset)
        divisor, n = self.model.encoder.divisor, self.window.batch_size
        images = [example.image for example in batch]
        if all(max(image.shape[1:]) <= self.window.crop for image in images):
            for i in range(0, len(images), n):
                for probabilities in self.window(net, images[i : i + n], divisor):
                    yield [
                        (
                            Tile(0, 0, probabilities.shape[2], probabilities.shape[1]),
                            most_probable(probabilities),
                        )
                    ]
            return
        for image in images:
            bands = self.window.bands(
                net,
                partial(_cut, image),
                (image.shape[1], image.shape[2]),
                divisor=divisor,
                buffer=BUFFER // len(self.subjects[dataset].categories),
            )
            yield ((tile, most_probable(band)) for tile, band in bands if band is not None)

    def _logits(self, dataset: int, image: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        counts = [0] * len(self.subjects)
        counts[dataset] = len(image)
        logits: Tensor = self.model(image, counts)[dataset].logits
        return logits

    def _reset(self) -> None:
        for subject in self.subjects:
            subject.reset(self.device)

    def _log_scores(self, split: str) -> None:
        if self.trainer.sanity_checking:  # its few images may have no labelled pixel
            return
        values: dict[str, float] = {}
        for subject in self.subjects:
            values |= subject.score(split, self._sum_over_processes)
        means = {f"{split}/{name}": self.mean(name) for name in MEANS}
        self.log_dict(means, prog_bar=True, sync_dist=True)
        self.log_dict({k: v for k, v in values.items() if k not in means}, sync_dist=True)

    def _sum_over_processes(self, counts: Tensor) -> Tensor:
        total = self.trainer.strategy.reduce(counts, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total


def _cut(image: Shaped[Tensor, "C _ _"], tile: Tile) -> Shaped[Tensor, "C _ _"]:
    return image[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
