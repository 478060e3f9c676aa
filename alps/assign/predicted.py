"""Classes from the predictions of a trained network, for a second round of labelling."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer

from alps.assign.baselines import Fixed
from alps.assign.limits import LIMITS
from alps.assign.predictions import Prediction, Predictions
from alps.errors import LabelError
from alps.protocols import Identity, ImageSet, Mapper
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import ignore_index_for, paint
from alps.structures.records import Category, Clusters
from alps.structures.settings import check_attributes

log = logging.getLogger(__name__)


class Predicted(Fixed):
    """Assigns to each mask the class that a network predicts for its pixels.

    That is the class with the largest sum of probabilities over the pixels; without probabilities,
    the most frequent class. The confidence of a mask is this sum divided by the number of its
    pixels that have a prediction. Its distance is 1 minus the confidence.

    Args:
        predictions: folder that ``train.py stage=predict`` has written for the images.
        images: the images.
        min_confidence: masks of lower confidence get no class, 0 to 1.

    Raises:
        ConfigError: the folder contains no predictions, or ``min_confidence`` is out of range.
    """

    def __init__(self, *, predictions: str, images: ImageSet, min_confidence: float = 0.0) -> None:
        self.min_confidence = min_confidence
        check_attributes(LIMITS["alps.assign.Predicted"], self)
        self._predictions = Predictions(predictions, images)

    @property
    def identity(self) -> Identity:
        """Settings: the lowest confidence, and a digest of the predictions and their classes."""
        return {
            "assigner": "predicted",
            "version": 1,
            "min_confidence": self.min_confidence,
            "predictions": self._predictions.digest,
        }

    @property
    def num_classes(self) -> int:
        """Number of predicted classes, K."""
        return len(self._predictions.categories)

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]],
        mapper: Mapper = map,
    ) -> Clusters | None:
        """Log the number of images without a prediction; there is nothing to fit.

        Args:
            blocks: not used.
            areas: not used.
            mapper: not used.

        Returns:
            None.
        """
        if missing := self._predictions.missing():
            log.warning(
                "%d of %d images have no prediction in %s, so their masks get no class (first: %s)",
                *(len(missing), len(self._predictions.records)),
                *(self._predictions.folder, missing[0]),
            )
        return None

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Return the predicted class of each mask, and 1 minus its confidence.

        Args:
            features: not used.
            clusters: not used.
            image_id: id of the image.
            masks: the masks of the image.

        Returns:
            The class of each mask, -1 if its confidence is too low or it has no prediction; and its
            distance, NaN if it has no prediction.

        Raises:
            LabelError: the prediction cannot be read, has a different size than the image, or
                contains an unknown class.
        """
        assert masks is not None
        if image_id not in self._predictions:
            return np.full(len(masks), -1, np.int32), np.full(len(masks), np.nan, np.float32)
        prediction = self._predictions.read(image_id, masks.size)
        self._check_classes(image_id, prediction)
        confidence = class_confidence(masks, prediction, self.num_classes)
        highest = confidence.max(axis=1)
        certain = (highest > 0) & (highest >= self.min_confidence)
        category_id = np.where(certain, confidence.argmax(axis=1), -1).astype(np.int32)
        return category_id, np.where(highest > 0, 1 - highest, np.float32(np.nan))

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Paint small masks over large ones; masks without a class get ``ignore_index``.

        Args:
            masks: masks of one image.
            category_id: class of each mask, -1 if it has none.
            ignore_index: value of masks without a class and of uncovered pixels.

        Returns:
            The class of each pixel.
        """
        return paint(masks, np.where(category_id < 0, ignore_index, category_id), ignore_index)

    def categories(self) -> list[Category]:
        """Return the classes of the network."""
        return self._predictions.categories

    def _check_classes(self, image_id: str, prediction: Prediction) -> None:
        """Raise `LabelError` if a prediction contains an unknown class."""
        labels, ignored = prediction.labels, ignore_index_for(self.num_classes)
        if (unknown := labels[(labels >= self.num_classes) & (labels != ignored)]).size:
            raise LabelError(
                f"the prediction of {image_id} contains {unknown[0]}, expected the classes 0 to "
                f"{self.num_classes - 1} of {self._predictions.folder}/categories.json, or "
                f"{ignored} for no data; repeat stage=predict in a new folder"
            )


def class_confidence(
    masks: Masks, prediction: Prediction, num_classes: int
) -> Float32[np.ndarray, "N K"]:
    """Return the mean probability of each class in each mask.

    A pixel counts with the probability of its predicted class; the other classes count 0 there.

    Args:
        masks: the masks of an image.
        prediction: the prediction of the image; without probabilities, each pixel counts 1.
        num_classes: number of classes, K; pixels with larger values have no prediction.

    Returns:
        The means over the pixels that have a prediction, 0 to 1; 0 if there are none.
    """
    labels, probability = prediction
    weights = np.ones(labels.shape) if probability is None else probability / 255
    # Columns first, like run lengths.
    by_column, weights = np.ascontiguousarray(labels.T), np.ascontiguousarray(weights.T)
    confidence = np.zeros((len(masks), num_classes), np.float32)
    for row, counts in zip(confidence, masks.counts, strict=True):
        x, y, window = rle.window(counts, masks.size[0])
        box = slice(x, x + window.shape[0]), slice(y, y + window.shape[1])
        inside = window & (by_column[box] < num_classes)
        if n := np.count_nonzero(inside):
            row[:] = np.bincount(by_column[box][inside], weights[box][inside], num_classes) / n
    return confidence
