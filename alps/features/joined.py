"""Concatenation of several feature vectors per mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from alps.protocols import Featurizer, Identity, ParallelFeaturizer
from alps.structures.masks import Masks
from alps.structures.records import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedFeatures:
    """Concatenates the feature vectors of several featurizers.

    The larger the L2 norm of a part's vectors, the more the part affects distances.

    Args:
        parts: featurizers by any names; a part that is None is skipped.
    """

    parts: Mapping[str, Featurizer | None]

    @property
    def identity(self) -> Identity:
        """Settings of all parts, prefixed with the names of the parts."""
        settings = {
            f"{name}.{key}": value
            for name, part in self._present().items()
            for key, value in part.identity.items()
        }
        return {"features": "joined", "version": 1, **settings}

    @property
    def channels(self) -> int:
        """Length of the concatenated vectors, C."""
        return sum(part.channels for part in self._present().values())

    @property
    def parallel(self) -> bool:
        """Whether several threads may use all parts at the same time."""
        return all(
            isinstance(part, ParallelFeaturizer) and part.parallel
            for part in self._present().values()
        )

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask; the masks belong to the image, and none is empty."""
        return np.concatenate([part(sample, masks) for part in self._present().values()], axis=1)

    def _present(self) -> Mapping[str, Featurizer]:
        """Return the parts that are not None."""
        return {name: part for name, part in self.parts.items() if part is not None}
