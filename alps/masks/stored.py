"""Masks of an existing label store, to change k, features or seed without running SAM again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alps.errors import ImageError
from alps.masks.ground import cover_ground
from alps.masks.limits import LIMITS
from alps.masks.valid import keep_data
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_settings


class StoredMasks:
    """Masks read from a label store that contains at least the images to label.

    Args:
        store: folder of the store; its masks must be finished, its labels need not be.
        ground: side of the superpixels that cover pixels without a mask, in pixels (see
            `alps.masks.ground`); 0 makes no superpixels.

    Raises:
        ConfigError: ``ground`` is neither 0 nor at least 4 pixels.
        StoreError: the store does not exist, or its masks are not finished.
    """

    def __init__(self, *, store: str, ground: int = 0) -> None:
        check_settings(LIMITS["alps.masks.StoredMasks"], {"ground": ground})
        self._store = LabelStore(store)
        self._store.require("masks")
        self._ground = ground

    @property
    def identity(self) -> Mapping[str, Any]:
        """Fingerprint of the stage that made the masks, whatever the folder of the store."""
        fingerprint = self._store.info.stages["masks"]["fingerprint"]
        settings = {"fingerprint": fingerprint, "ground": self._ground}
        return {"masks": "stored", "version": 2, **settings}

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Do nothing: masks are read when they are needed."""

    def __call__(self, sample: Sample) -> Masks:
        """Return the masks of one image.

        Raises:
            ImageError: the store has no masks of this image, or they are of another size.
        """
        if sample.image_id not in self._store:
            raise ImageError(
                f"{sample.image_id} has no masks in {self._store.root}; label it into a new store"
            )
        masks = self._store.masks(sample.image_id)
        if masks.size != sample.size:
            raise ImageError(
                f"{sample.image_id} has (height, width) = {sample.size}, its masks in "
                f"{self._store.root} {masks.size}; is it another image of this name?"
            )
        return cover_ground(keep_data(masks, sample.valid), sample, self._ground)
