"""Classes, confusion matrix and scores of one dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Int64, Integer
from torch import Tensor, nn

from alps.datasets.segmentation import Example
from alps.errors import LabelError
from alps.metrics.segmentation import Scores, confusion_matrix, scores
from alps.protocols import LabelledSet
from alps.rasters.view import View
from alps.structures.records import Category
from alps.structures.tiles import Tile
from alps.training.pictures import PictureRow, storage_step

#: A window of an image and the predicted classes of its pixels.
Part = tuple[Tile, Integer[Tensor, "_ _"]]
#: Number of images in a picture of predictions.
PICTURE_ROWS = 4
#: The summary scores.
MEANS = ("mIoU", "mF1", "OA")
#: Logged name of the number of classes in the summary scores.
CLASSES = "classes"
#: Mean IoU without the background, for datasets whose published scores exclude this class.
FOREGROUND = "mIoU_foreground"


class Sketch:
    """An image, its label and its prediction at the resolution of a picture.

    Args:
        example: RGB image (3, H, W) and target (H, W), of which every n-th row and column is used.
    """

    def __init__(self, example: Example) -> None:
        self.step = storage_step(example.target.shape)
        image = example.image if example.rgb is None else example.rgb
        self.image = image[:, :: self.step, :: self.step]
        self.target = example.target[:: self.step, :: self.step]
        self.prediction = torch.zeros_like(self.target, dtype=torch.int32)

    def add(self, tile: Tile, prediction: Integer[Tensor, "_ _"]) -> None:
        """Add the predicted classes of a window."""
        step = self.step
        thin = prediction[-tile.y0 % step :: step, -tile.x0 % step :: step]
        rows, columns = -(-tile.y0 // step), -(-tile.x0 // step)
        self.prediction[rows : rows + thin.shape[0], columns : columns + thin.shape[1]] = thin

    def to_row(self) -> PictureRow:
        """Return a picture row of copies, so that the memory of the example can be freed."""
        maps = (self.image.permute(1, 2, 0), self.target, self.prediction)
        return PictureRow(*(values.cpu().numpy().copy() for values in maps))


class Subject:
    """Classes of one dataset, and the confusion matrix of the pixels counted so far.

    Args:
        categories: the classes.
        ignore_index: target value of pixels that are neither trained on nor scored.
        protocol: description of how the scores are computed, saved in every checkpoint.
        loss: module that maps logits and target to a loss; None without training.
        name: name of the dataset; empty for a single dataset.
        background: index of a class that published mean scores exclude; None: no class.
        fingerprint: digest of the images and labels, saved in every checkpoint.
        view: how rasters are read, saved in every checkpoint. None: the images are not rasters.
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
        fingerprint: str = "",
        view: View | None = None,
    ) -> None:
        self.categories = tuple(categories)
        self.ignore_index = ignore_index
        self.protocol = protocol
        self.loss = loss
        self.name = name
        self.background = background
        self.fingerprint = fingerprint
        self.view = view
        self.scores: Scores | None = None
        self.picture_rows: list[PictureRow] = []  # the first validation images, for pictures
        self.confusion: Int64[Tensor, "K K"]
        self.reset()

    @classmethod
    def of(cls, images: LabelledSet, name: str = "", *, loss: nn.Module | None = None) -> Subject:
        """Return the subject of a labelled set.

        Args:
            images: the labelled set.
            name: name of the dataset; empty for a single dataset.
            loss: module that maps logits and target to a loss; None without training.
        """
        view = getattr(images, "view", None)
        return cls(
            categories=images.categories(),
            ignore_index=images.ignore_index,
            protocol=images.protocol,
            loss=loss,
            name=name,
            background=getattr(images, "background", None),
            view=None if view is None else View.from_json(view),
        )

    def named(self, split: str, score: str) -> str:
        """Return the logged name of a score: ``val/mIoU`` or ``val/<dataset>/mIoU``."""
        return "/".join([split, *([self.name] if self.name else []), score])

    def coverage(self) -> str:
        """Return ``over 4 of 5 classes`` if a class did not occur, otherwise an empty string."""
        k = len(self.categories)
        if self.scores is None or self.scores.num_scored == k:
            return ""
        of = f" of {self.name}" if self.name else ""
        return f"over {self.scores.num_scored} of {k} classes{of}"

    def reset(self, device: torch.device | str = "cpu") -> None:
        """Reset the confusion matrix and the pictures."""
        k = len(self.categories)
        self.confusion = torch.zeros(k, k, dtype=torch.int64, device=device)
        self.picture_rows.clear()

    def count(self, example: Example, parts: Iterable[Part]) -> None:
        """Add the pixels of an image to the confusion matrix.

        Args:
            example: the image and its target.
            parts: predicted classes of windows that cover each pixel once.
        """
        picture = Sketch(example) if len(self.picture_rows) < PICTURE_ROWS else None
        for tile, prediction in parts:
            target = example.target[tile.y0 : tile.y1, tile.x0 : tile.x1]
            self.confusion += confusion_matrix(
                prediction, target, len(self.categories), self.ignore_index
            )
            if picture is not None:
                picture.add(tile, prediction)
        if picture is not None:
            self.picture_rows.append(picture.to_row())

    def score(self, split: str, add: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Compute the scores of the pixels counted so far.

        Args:
            split: split, the first part of the logged names.
            add: function that sums a matrix over all processes.

        Returns:
            Scores by logged name.

        Raises:
            LabelError: no pixel is labelled.
        """
        self.confusion = add(self.confusion)
        if not self.confusion.any():
            raise LabelError(
                f"{self.protocol}: no pixel with data has a label in the images of {split}, so "
                "there are no scores; check the labels and dataset.ignore_index"
            )
        self.scores = scores(self.confusion)
        per_class = {
            self.named(split, f"IoU/{category.name}"): iou
            for category, iou in zip(self.categories, self.scores.iou, strict=True)
        }
        means = {m: getattr(self.scores, m) for m in MEANS}
        means[CLASSES] = float(self.scores.num_scored)
        if self.background is not None:
            means[FOREGROUND] = self.scores.foreground(self.background)
        return {self.named(split, m): value for m, value in means.items()} | per_class
