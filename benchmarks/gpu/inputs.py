"""The device, the images and the folders of a part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alps.images.plain.sample import SampleImages

#: Side of an image, px: SAM's input size, and one with which all but SAM takes little time.
SIDE, SMALL_SIDE = 1024, 256


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a part measures.

    Args:
        device: "cuda" or "cpu".
        sample: folder of the sample images.
        folder: empty folder for the files of the part.
        small: whether a few points, small crops and a few steps suffice, as on a CPU.
    """

    device: str
    sample: Path
    folder: Path
    small: bool

    @property
    def on_cpu(self) -> bool:
        """Whether there is no GPU to measure."""
        return self.device == "cpu"

    @property
    def trainer(self) -> str:
        """The override of train.py that selects the device."""
        return "trainer=cpu" if self.on_cpu else "trainer=gpu"

    def images(self, n: int) -> list[UInt8[np.ndarray, "H W 3"]]:
        """Return ``n`` different images: crops of the sample, rotated and mirrored."""
        side = SMALL_SIDE if self.small else SIDE
        sample = SampleImages(str(self.sample))
        crops = [sample.read(record).image[:side, :side] for record in sample.records()]
        turned = [np.rot90(crop, k) for k in range(4) for crop in crops]
        turned += [image[:, ::-1] for image in turned]
        return [np.ascontiguousarray(image) for image in turned[:n]]
