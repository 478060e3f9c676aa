"""Masks of an existing label store, for new features or classes without running SAM again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alps.errors import ImageError
from alps.masks.limits import LIMITS
from alps.masks.superpixels import add_superpixels
from alps.masks.valid import keep_data
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_settings


class StoredMasks:
    """Masks read from a label store that contains at least the images to label.

    Args:
        store: folder of the store; its masks must be complete, its labels need not be.
        ground: side of the superpixels that uncovered pixels are split into, in pixels (see
            `alps.masks.superpixels`); 0: no superpixels.

    Raises:
        ConfigError: ``ground`` is neither 0 nor at least 4 pixels.
        StoreError: the store does not exist, or its masks are incomplete.
    """

    def __init__(self, *, store: str, ground: int = 0) -> None:
        check_settings(LIMITS["alps.masks.StoredMasks"], {"ground": ground})
        self._store = LabelStore(store)
        self._store.require("masks")
        self._ground = ground

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings: the fingerprint of the stored masks, regardless of the store's folder."""
        fingerprint = self._store.info.stages["masks"]["fingerprint"]
        settings = {"fingerprint": fingerprint, "ground": self._ground}
        return {"masks": "stored", "version": 2, **settings}

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Do nothing: masks are read when they are needed."""

    def __call__(self, sample: Sample) -> Masks:
        """Return the masks of one image.

        Raises:
            ImageError: the store has no masks of this image, or of a different size.
        """
        return self.finish(sample, self.segment(sample))

    def segment(self, sample: Sample) -> Masks:
        """Return the masks of one image in the store.

        Raises:
            ImageError: the store has no masks of this image, or of a different size.
        """
        if sample.image_id not in self._store:
            raise ImageError(
                f"{sample.image_id} has no masks in {self._store.root}; label it into a new store"
            )
        masks = self._store.masks(sample.image_id)
        if masks.size != sample.size:
            raise ImageError(
                f"{sample.image_id} has (height, width) = {sample.size}, but its masks in "
                f"{self._store.root} have {masks.size}; use the image that the store was made from"
            )
        return masks

    def finish(self, sample: Sample, masks: Masks) -> Masks:
        """Remove pixels without data, then append the superpixels of uncovered pixels."""
        return add_superpixels(keep_data(masks, sample.valid), sample, self._ground)
