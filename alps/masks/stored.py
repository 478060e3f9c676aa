"""The masks of a store that exists: another k, feature or seed without running SAM again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from alps.errors import ImageError
from alps.masks.ground import check_side, cover_ground
from alps.masks.valid import keep_data
from alps.store.label_store import LabelStore
from alps.store.labelled import StoredImages
from alps.structures.masks import Masks
from alps.structures.records import Sample


class StoredMasks:
    """Masks read from a label store of the same images, or of more.

    Args:
        store: folder of the store; its masks must be finished, its labels need not be.
        ground: side of the superpixels that bare ground is cut into, in pixels, see
            `alps.masks.ground`; 0 leaves it bare.

    Raises:
        ConfigError: ``ground`` is below 4 pixels, and not 0.
        StoreError: there is no store, or its masks are not finished.
    """

    def __init__(self, *, store: str, ground: int = 0) -> None:
        self._store = LabelStore(store)
        self._store.require("masks")
        check_side(ground)
        self._ground = ground

    @property
    def identity(self) -> Mapping[str, Any]:
        """What made the masks; where the store lies changes nothing."""
        fingerprint = self._store.info.stages["masks"]["fingerprint"]
        settings = {"fingerprint": fingerprint, "ground": self._ground}
        return {"masks": "stored", "version": 2, **settings}

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Nothing to prepare."""

    def __call__(self, sample: Sample) -> Masks:
        """The masks of one image.

        Raises:
            ImageError: the store has no masks of this image, or of one of another size.
        """
        masks = self._images.masks(sample.image_id)
        if masks is None:
            raise ImageError(
                f"{sample.image_id} has no masks in {self._store.root}; label it into a new store"
            )
        if masks.size != sample.size:
            raise ImageError(
                f"{sample.image_id} has (height, width) = {sample.size}, its masks in "
                f"{self._store.root} {masks.size}; is it another image of this name?"
            )
        return cover_ground(keep_data(masks, sample.valid), sample, self._ground)

    @cached_property
    def _images(self) -> StoredImages:
        return StoredImages(self._store)
