"""Features of an existing label store, for its own masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from alps.errors import StoreError
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.records import Sample


class StoredFeatures:
    """Features read from the store that also supplies the masks, so only classes are computed.

    Args:
        store: folder of the store.

    Raises:
        StoreError: the store does not exist, or its features are incomplete.
    """

    def __init__(self, *, store: str) -> None:
        self._store = LabelStore(store)
        self._store.require("features")

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings: the fingerprint of the stored features, regardless of the store's folder."""
        stage = self._store.info.stages["features"]
        return {"features": "stored", "version": 1, "fingerprint": stage["fingerprint"]}

    @property
    def channels(self) -> int:
        """Length of the stored vectors, C."""
        return int(self._store.shard(0).features().shape[1])

    @property
    def channel_groups(self) -> Sequence[int]:
        """Groups with which the store was clustered; one if it was clustered without."""
        identity = self._store.info.stages["assign"]["identity"]
        groups: Sequence[int] = identity.get("channel_groups") or [self.channels]
        return groups

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask.

        Raises:
            StoreError: the masks are not those of the store.
        """
        stored = sample.image_id in self._store
        if not stored or self._store.masks(sample.image_id).counts != masks.counts:
            cause = "no-data pixels were removed from its masks: set features=sam or joined"
            raise StoreError(
                f"the masks of {sample.image_id} are not those of {self._store.root}, whose "
                "features are requested; read both from that store: masks=stored features=stored "
                "masks.store=STORE masks.ground=0"
                + (f" ({cause})" if sample.valid is not None else "")
            )
        return self._store.features(sample.image_id).astype(np.float32)
