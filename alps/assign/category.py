"""A mask gets the category of the box it was prompted with (SAMRS, arXiv 2305.02034)."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Integer

from alps.assign.baselines import Fixed
from alps.errors import ConfigError, StoreError
from alps.protocols import Categorised, Identity, ImageSet
from alps.structures.masks import Masks
from alps.structures.paint import paint
from alps.structures.records import Category, Clusters


class ByCategory(Fixed):
    """Classes are the categories of the boxes; what is ignored is no class.

    Args:
        images: the image set.

    Raises:
        ConfigError: it has no categories.
    """

    def __init__(self, images: ImageSet) -> None:
        if not isinstance(images, Categorised):
            raise ConfigError(
                f"assign=category takes the categories of boxes, and {images.name} has none; label "
                "an image set with boxes, as +dataset=dota, or take assign=cluster"
            )
        self._images = images

    @cached_property
    def _categories(self) -> list[Category]:
        return self._images.categories()

    @property
    def identity(self) -> Identity:
        """The names of the classes."""
        return {"assigner": "category", "version": 1, "classes": [c.name for c in self._categories]}

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self._categories)

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """The box's category, -1 where the box is ignored.

        Raises:
            StoreError: the masks were not made from boxes.
        """
        n = len(features)
        if masks is None or (n and masks.boxes is None):
            raise StoreError(
                f"the masks of {image_id} were not prompted with boxes, so they have no category; "
                "take masks=box, or assign=cluster"
            )
        ids = np.zeros(0, np.int32)
        if masks.boxes is not None:
            ids = np.where(masks.boxes.ignore, -1, masks.boxes.category_id).astype(np.int32)
        return ids, np.full(n, np.nan, np.float32)

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Small masks over large ones, ignored ones too: theirs is the ignore index."""
        return paint(masks, np.where(category_id < 0, ignore_index, category_id), ignore_index)

    def categories(self) -> list[Category]:
        """Those of the boxes."""
        return self._categories
