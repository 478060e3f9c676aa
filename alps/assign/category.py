"""Classes from the categories of the boxes that prompted the masks (SAMRS, arXiv 2305.02034)."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Integer

from alps.assign.baselines import Fixed
from alps.errors import ConfigError, StoreError
from alps.protocols import CategorisedSet, Identity, ImageSet
from alps.structures.masks import Masks
from alps.structures.paint import paint
from alps.structures.records import Category, Clusters


class ByCategory(Fixed):
    """Assigns the category of its box to each mask; masks of ignored boxes get no class.

    Args:
        images: the image set, which defines the categories.

    Raises:
        ConfigError: the image set has no categories.
    """

    def __init__(self, images: ImageSet) -> None:
        if not isinstance(images, CategorisedSet):
            raise ConfigError(
                f"assign=category uses the categories of boxes, but {images.name} has none; label "
                "an image set with boxes, such as +dataset=dota, or use assign=cluster"
            )
        self._images = images

    @cached_property
    def _categories(self) -> list[Category]:
        """Categories of the image set, read once."""
        return self._images.categories()

    @property
    def identity(self) -> Identity:
        """Settings: the names of the classes."""
        return {"assigner": "category", "version": 1, "classes": [c.name for c in self._categories]}

    @property
    def num_classes(self) -> int:
        """Number of categories, K."""
        return len(self._categories)

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Return the category of each mask's box, and NaN as distances.

        Args:
            features: one row per mask; only the number of rows matters.
            clusters: not used.
            image_id: id of the image, for the error message.
            masks: masks made from boxes.

        Returns:
            The category of each mask, -1 if its box is ignored; and NaN for each mask.

        Raises:
            StoreError: the masks were not made from boxes.
        """
        n = len(features)
        if masks is None or (n and masks.boxes is None):
            raise StoreError(
                f"the masks of {image_id} were not prompted with boxes, so they have no category; "
                "use masks=box, or assign=cluster"
            )
        ids = np.zeros(0, np.int32)
        if masks.boxes is not None:
            ids = np.where(masks.boxes.ignore, -1, masks.boxes.category_id).astype(np.int32)
        return ids, np.full(n, np.nan, np.float32)

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Paint small masks over large ones; ignored masks are painted with ``ignore_index``.

        Args:
            masks: masks of one image.
            category_id: category of each mask, -1 if it is ignored.
            ignore_index: value of ignored masks and uncovered pixels.

        Returns:
            The category of each pixel.
        """
        return paint(masks, np.where(category_id < 0, ignore_index, category_id), ignore_index)

    def categories(self) -> list[Category]:
        """Return the categories of the image set."""
        return self._categories
