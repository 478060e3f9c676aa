"""What every image set with boxes must do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alps.protocols import ImageSet
from alps.structures.records import Sample
from tests.box_formats import Drawn


def read_all(images: ImageSet) -> dict[str, Sample]:
    """All samples by id, which are those of the records."""
    return {record.image_id: images.read(record) for record in images.records()}


def splits(images: ImageSet) -> dict[str, str]:
    return {record.image_id: record.split for record in images.records()}


def check_objects(
    sample: Sample, truth: list[Drawn], names: list[str], *, ignored: bool = True
) -> None:
    """The sample's boxes are the objects, one by one."""
    boxes = sample.boxes
    assert boxes is not None
    assert sample.dropped == ()
    assert boxes.object_id.tolist() == list(range(len(truth)))
    np.testing.assert_allclose(boxes.xyxy, [o.xyxy for o in truth], atol=0.06)
    assert [names[i] for i in boxes.category_id] == [o.category for o in truth]
    assert boxes.ignore.tolist() == [o.difficult and ignored for o in truth]


def check_corners(sample: Sample, truth: list[Drawn]) -> None:
    """The corners are those of the objects, wherever they start."""
    assert sample.boxes is not None
    for quad, drawn in zip(sample.boxes.quad, truth, strict=True):
        found, expected = (np.reshape(q, (4, 2)) for q in (quad, drawn.quad))
        far = np.linalg.norm(found[:, None] - expected, axis=2)
        assert far.min(0).max() < 0.11 and far.min(1).max() < 0.11


def around(drawn: Drawn, size: tuple[int, int] = (96, 128)) -> Drawn:
    """The object as a dataset has it that knows its corners only: the box is around them."""
    corners = np.reshape(drawn.quad, (4, 2)).clip(0, size[::-1])
    return replace(drawn, xyxy=(*corners.min(0), *corners.max(0)))
