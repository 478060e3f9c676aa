"""What a net learns: the classes of one dataset, and how well it knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from alps.datasets.segmentation import Example
from alps.metrics.segmentation import Scores, confusion_matrix, scores
from alps.training.pictures import Shown
from alps.types import Category, LabelledSet

#: Images in a picture of predictions.
SHOWN = 4
#: The scores that stand for the others.
MEANS = ("mIoU", "mF1", "OA")
#: The mean IoU without the background, of datasets whose published scores leave it out.
FOREGROUND = "mIoU_foreground"


class Subject:
    """The classes of one dataset, with the pixels counted so far.

    Args:
        categories: the classes.
        ignore_index: the value of pixels that are neither learnt nor scored.
        protocol: how the scores are to be read; goes with every checkpoint.
        loss: of logits and target; None where nothing is learnt.
        name: of the dataset; empty where it is the only one.
        background: the class that published means leave out, where they do.
    """

    def __init__(
        self,
        *,
        categories: Sequence[Category],
        ignore_index: int,
        protocol: str,
        loss: nn.Module | None = None,
        name: str = "",
        background: int | None = None,
    ) -> None:
        self.categories = tuple(categories)
        self.ignore_index = ignore_index
        self.protocol = protocol
        self.loss = loss
        self.name = name
        self.background = background
        self.scores: Scores | None = None
        self.shown: list[Shown] = []  # the first validation images, for pictures
        self.confusion: Int64[Tensor, "K K"]
        self.forget()

    @classmethod
    def of(cls, images: LabelledSet, name: str = "", *, loss: nn.Module | None = None) -> Subject:
        """The classes of a labelled set."""
        return cls(
            categories=images.categories(),
            ignore_index=images.ignore_index,
            protocol=images.protocol,
            loss=loss,
            name=name,
            background=getattr(images, "background", None),
        )

    def named(self, split: str, score: str) -> str:
        """What a score is logged as: ``val/mIoU``, or ``val/<dataset>/mIoU`` beside others."""
        return "/".join([split, *([self.name] if self.name else []), score])

    def forget(self, device: torch.device | str = "cpu") -> None:
        """Begin to count anew."""
        k = len(self.categories)
        self.confusion = torch.zeros(k, k, dtype=torch.int64, device=device)
        self.shown.clear()

    def count(self, example: Example, prediction: Int64[Tensor, "H W"]) -> None:
        """Add the pixels of an image."""
        self.confusion += confusion_matrix(
            prediction, example.target, len(self.categories), self.ignore_index
        )
        if len(self.shown) < SHOWN:
            image = example.image.permute(1, 2, 0)
            maps = (image, example.target, prediction)
            self.shown.append(Shown(*(values.cpu().numpy() for values in maps)))

    def score(self, split: str, add: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Score what was counted.

        Args:
            split: goes before the names.
            add: sums up a matrix over all processes.

        Returns:
            What is logged.
        """
        self.confusion = add(self.confusion)
        self.scores = scores(self.confusion)
        per_class = {
            self.named(split, f"IoU/{category.name}"): iou
            for category, iou in zip(self.categories, self.scores.iou, strict=True)
        }
        means = {m: getattr(self.scores, m) for m in MEANS}
        if self.background is not None:
            means[FOREGROUND] = self.scores.foreground(self.background)
        return {self.named(split, m): value for m, value in means.items()} | per_class
