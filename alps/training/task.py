"""The Lightning task: a step of training, and scores over whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from lightning.pytorch import LightningModule
from torch import Tensor, nn

import alps
from alps.datasets.segmentation import Batch, Example
from alps.errors import DivergedError
from alps.geometry import Tile
from alps.metrics.segmentation import Scores, confusion_matrix, scores
from alps.models.segmentation import SegmentationModel
from alps.training.optim import Optim
from alps.training.pictures import Shown
from alps.training.sliding import BUFFER, SlidingWindow
from alps.types import Category

#: Images in a picture of predictions.
SHOWN = 4

REMEDY = "lower optim.lr, lengthen optim.warmup or set trainer.gradient_clip_val=1"


class SegmentationTask(LightningModule):
    """Learn a model on batches of crops, score it on whole images.

    Args:
        model: the net; the only thing with weights.
        categories: the classes.
        ignore_index: the value of pixels that are neither learnt nor scored.
        protocol: how the scores are to be read; goes with every checkpoint.
        window: how whole images are predicted.
        loss: of logits and target; None where nothing is learnt.
        optim: the optimiser's recipe; None where nothing is learnt.
        aux_weight: weight of the auxiliary head's loss, where there is one (0.4 as in PSPNet,
            arXiv 1612.01105, section 3.3).
        config: the resolved configuration as YAML, kept in every checkpoint.
        seed: of dropout and the like, together with the number of the batch.
    """

    def __init__(
        self,
        *,
        model: SegmentationModel,
        categories: Sequence[Category],
        ignore_index: int,
        protocol: str,
        window: SlidingWindow,
        loss: nn.Module | None = None,
        optim: Optim | None = None,
        aux_weight: float = 0.4,
        config: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.categories = tuple(categories)
        self.ignore_index = ignore_index
        self.protocol = protocol
        self.window = window
        self.loss = loss
        self.optim = optim
        self.aux_weight = aux_weight
        self.config = config
        self.seed = seed
        self.scores: Scores | None = None
        self.shown: list[Shown] = []  # the first validation images, for pictures
        # No buffer: weight averaging would average it.
        self.confusion: Int64[Tensor, "K K"] = self._zeros()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what the net draws: a resumed run draws what an unbroken one would."""
        spawn = (self.trainer.fit_loop.epoch_loop.total_batch_idx, self.trainer.global_rank)
        sequence = np.random.SeedSequence(self.seed, spawn_key=spawn)
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """The loss of one batch; raises `DivergedError` when it is not finite."""
        assert self.loss is not None
        output = self.model(batch.image)
        loss: Tensor = self.loss(output.logits, batch.target)
        if output.aux is not None:
            loss = loss + self.aux_weight * self.loss(output.aux, batch.target)
        if not loss.isfinite():
            raise DivergedError(
                f"the loss is {loss.item()} at step {self.global_step} (batch {batch_idx}: "
                f"{', '.join(batch.image_ids)}); {REMEDY}, or look at these images"
            )
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch.target))
        return loss

    def validation_step(self, batch: list[Example], batch_idx: int) -> None:
        """Count the pixels of whole images."""
        self._count(batch)

    def test_step(self, batch: list[Example], batch_idx: int) -> None:
        """Count the pixels of whole images."""
        self._count(batch)

    def on_validation_epoch_start(self) -> None:
        """Forget what was counted before; raises `DivergedError` when weights are not finite."""
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            raise DivergedError(f"weights are not finite after step {self.global_step}; {REMEDY}")
        self.confusion = self._zeros()
        self.shown.clear()

    def on_test_epoch_start(self) -> None:
        """Forget what was counted before."""
        self.confusion = self._zeros()

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all processes' pixels."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all processes' pixels."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """One step of the schedule per step of the optimiser."""
        assert self.optim is not None
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = self.optim.build(self.model, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to use the weights: the configuration, the classes, the protocol."""
        checkpoint["alps"] = {
            "version": alps.__version__,
            "config": self.config,
            "categories": [(c.id, c.name, c.color) for c in self.categories],
            "ignore_index": self.ignore_index,
            "protocol": self.protocol,
            "crop": self.window.crop,
        }

    def _count(self, batch: list[Example]) -> None:
        for example, prediction in zip(batch, self._predict(batch), strict=True):
            self.confusion += confusion_matrix(
                prediction, example.target, len(self.categories), self.ignore_index
            )
            if len(self.shown) < SHOWN:
                image = example.image.permute(1, 2, 0)
                maps = (image, example.target, prediction)
                self.shown.append(Shown(*(values.cpu().numpy() for values in maps)))

    def _predict(self, batch: list[Example]) -> Iterator[Int64[Tensor, "_ _"]]:
        """Index maps, some windows at a time and large images in bands: memory is bounded."""
        divisor, n = self.model.encoder.divisor, self.window.batch_size
        images = [example.image for example in batch]
        if all(max(image.shape[1:]) <= self.window.crop for image in images):
            for i in range(0, len(images), n):
                for part in self.window(self._logits, images[i : i + n], divisor):
                    yield part.max(0).indices  # on a CPU six times as fast as argmax
            return
        for image in images:
            bands = self.window.bands(
                self._logits,
                partial(_cut, image),
                (image.shape[1], image.shape[2]),
                divisor=divisor,
                buffer=BUFFER // len(self.categories),
            )
            prediction = torch.empty(image.shape[1:], dtype=torch.int64, device=image.device)
            for tile, part in bands:
                prediction[tile.y0 : tile.y1, tile.x0 : tile.x1] = part.max(0).indices
            yield prediction

    def _logits(self, image: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        logits: Tensor = self.model(image).logits
        return logits

    def _log_scores(self, split: str) -> None:
        confusion = self.trainer.strategy.reduce(self.confusion, reduce_op="sum")
        assert isinstance(confusion, Tensor)
        self.confusion = confusion
        self.scores = scores(confusion)
        values = {f"{split}/{name}": getattr(self.scores, name) for name in ("mIoU", "mF1", "OA")}
        self.log_dict(values, prog_bar=True, sync_dist=True)
        per_class = {
            f"{split}/IoU/{category.name}": iou
            for category, iou in zip(self.categories, self.scores.iou, strict=True)
        }
        self.log_dict(per_class, sync_dist=True)

    def _zeros(self) -> Int64[Tensor, "K K"]:
        k = len(self.categories)
        return torch.zeros(k, k, dtype=torch.int64, device=self.device)


def _cut(image: UInt8[Tensor, "C _ _"], tile: Tile) -> UInt8[Tensor, "C _ _"]:
    return image[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
