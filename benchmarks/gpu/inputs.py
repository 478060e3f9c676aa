"""The device, the images and the folders of a part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alps.images.plain.sample import SampleImages

#: Side of an image, px: SAM's input size on a GPU, and one that keeps the rest short on a CPU.
SIDE, SMALL_SIDE = 1024, 256


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a part measures.

    Args:
        device: "cuda", or "cpu" for the same work in small.
        sample: folder of the sample images.
        folder: empty folder for the files of the part.
    """

    device: str
    sample: Path
    folder: Path

    @property
    def small(self) -> bool:
        """Whether a few points, crops and steps suffice."""
        return self.device == "cpu"

    @property
    def trainer(self) -> str:
        """The override of train.py that selects the device."""
        return "trainer=cpu" if self.small else "trainer=gpu"

    def images(self, n: int) -> list[UInt8[np.ndarray, "H W 3"]]:
        """Return ``n`` different images: crops of the sample, rotated and mirrored."""
        side = SMALL_SIDE if self.small else SIDE
        sample = SampleImages(str(self.sample))
        crops = [sample.read(record).image[:side, :side] for record in sample.records()]
        turned = [np.rot90(crop, k) for k in range(4) for crop in crops]
        turned += [image[:, ::-1] for image in turned]
        return [np.ascontiguousarray(image) for image in turned[:n]]
