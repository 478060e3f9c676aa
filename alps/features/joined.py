"""Concatenation of several feature vectors per mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from alps.protocols import Featurizer, GroupedFeaturizer, Identity, ParallelFeaturizer
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
    def channel_groups(self) -> Sequence[int]:
        """Number of channels of each part, or of each group of a part that has several."""
        return [size for part in self._present().values() for size in channel_groups(part)]

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


def channel_groups(features: Featurizer) -> Sequence[int]:
    """Return the number of channels of each part of the vectors, or of the whole vector."""
    if isinstance(features, GroupedFeaturizer):
        return features.channel_groups
    return [features.channels]
