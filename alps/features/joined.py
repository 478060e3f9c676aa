"""Several features of a mask side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from alps.protocols import Featurizer, Identity
from alps.structures.masks import Masks
from alps.structures.records import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedFeatures:
    """The rows of all parts, one after the other; how long a part's rows are is its weight.

    Args:
        parts: features by names of one's own; those that are None are left out.
    """

    parts: Mapping[str, Featurizer | None]

    @property
    def identity(self) -> Identity:
        """The settings of all parts, each under the part's name."""
        settings = {
            f"{name}.{key}": value
            for name, part in self._given().items()
            for key, value in part.identity.items()
        }
        return {"features": "joined", "version": 1, **settings}

    @property
    def channels(self) -> int:
        """Those of all parts."""
        return sum(part.channels for part in self._given().values())

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """One row per mask; masks come from one image and are not empty."""
        return np.concatenate([part(sample, masks) for part in self._given().values()], axis=1)

    def _given(self) -> Mapping[str, Featurizer]:
        return {name: part for name, part in self.parts.items() if part is not None}
