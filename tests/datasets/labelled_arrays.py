"""A labelled image set in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from alps.errors import ImageError
from alps.structures.records import Category, ImageRecord, Sample


@dataclass
class LabelledArrays:
    """Pairs of image and target by id; an image that is a string is why it cannot be read."""

    pairs: dict[str, tuple[np.ndarray | str, np.ndarray]]
    num_classes: int = 4
    ignore_index: int = 255
    name: str = "arrays"
    root: str = "memory"
    protocol: str = "arrays: 4 classes"
    labels_read: list[str] = field(default_factory=list)
    valid: dict[str, np.ndarray] = field(default_factory=dict)  # of images that hold no-data

    def records(self) -> list[ImageRecord]:
        return [ImageRecord(image_id, f"{image_id}.png") for image_id in self.pairs]

    def categories(self) -> list[Category]:
        return [
            Category(i, f"class {i}", (i % 256, i % 256, i % 256)) for i in range(self.num_classes)
        ]

    def read(self, record: ImageRecord) -> Sample:
        image = self.pairs[record.image_id][0]
        if isinstance(image, str):
            raise ImageError(f"cannot read {record.file_name}: {image}")
        return Sample(record.image_id, image, valid=self.valid.get(record.image_id))

    def read_target(self, record: ImageRecord) -> np.ndarray:
        self.labels_read.append(record.image_id)
        return self.pairs[record.image_id][1]


def random_pairs(
    n: int, size: tuple[int, int] = (12, 16), seed: int = 0, **options
) -> LabelledArrays:
    """``n`` images of noise, with targets of all four classes."""
    rng = np.random.default_rng(seed)
    return LabelledArrays(
        {
            f"image_{i}": (
                rng.integers(0, 256, (*size, 3), dtype=np.uint8),
                rng.integers(0, 4, size, dtype=np.uint8),
            )
            for i in range(n)
        },
        **options,
    )


def label_sets(*classes: set[int], **options) -> LabelledArrays:
    """One image per set, whose target holds just these classes."""
    image = np.zeros((2, 8, 3), np.uint8)
    pairs = {
        f"image_{i:03d}": (image, np.resize([*found], (2, 8)).astype(np.uint8))
        for i, found in enumerate(classes)
    }
    return LabelledArrays(pairs, **options)
