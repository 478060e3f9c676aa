"""Validated annotated boxes, from which SAM's prompts and the classes of masks are taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32

from alps.structures.arrays import RowIndex, check_array, select_rows
from alps.structures.digest import digest
from alps.structures.supervision import to_detections

#: Minimum side of a box after clipping to the image, px.
MIN_SIDE = 1.0
#: Maximum absolute coordinate, px; no image is as large.
LARGEST = 1e9
#: Name, type and row shape of each array of `Boxes`.
COLUMNS: Sequence[tuple[str, type[np.generic], tuple[int, ...]]] = (
    ("xyxy", np.float32, (4,)),
    ("quad", np.float32, (8,)),
    ("category_id", np.int32, ()),
    ("object_id", np.int32, ()),
    ("ignore", np.bool_, ()),
    ("score", np.float32, ()),
    ("track_id", np.int32, ()),
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object as read from a file, not validated.

    Args:
        where: position in the file, for messages, such as "line 7".
        category: category name in the file.
        points: x y of two corners of a horizontal box or of four corners of a rotated box, px.
        quad: x y of the four corners of the rotated box, px, if the object has both boxes.
        ignore: difficult, crowd or "don't care" object, excluded from training and scores.
        score: confidence of a detector.
        track_id: id shared by all frames that show the object.
        text: transcription of a text instance.
        counts: ground-truth mask as compressed COCO RLE of the whole image.
    """

    where: str
    category: str
    points: Sequence[float | int]
    quad: Sequence[float | int] | None = None
    ignore: bool = False
    score: float | int | None = None
    track_id: int | None = None
    text: str | None = None
    counts: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """N non-empty boxes inside one image.

    ``boxes[0]``, ``boxes[2:5]`` and ``boxes[boxes.ignore]`` return `Boxes` with the selected
    rows, and iteration yields `Boxes` of length 1.

    >>> annotations = [
    ...     Annotation("line 1", "ship", (1, 1, 5, 4)),
    ...     Annotation("line 2", "ship", (6, 2, 9, 9), ignore=True),
    ... ]
    >>> boxes, problems = check_boxes(annotations, {"plane": 0, "ship": 1}, size=(9, 12))
    >>> boxes
    Boxes(n=2, categories=1, ignored=1)
    >>> boxes[~boxes.ignore].xyxy
    array([[1., 1., 5., 4.]], dtype=float32)

    Raises:
        ValueError: a field has the wrong dtype or shape, or a box is empty.
    """

    xyxy: Float32[np.ndarray, "N 4"]  # px, right and lower edges exclusive
    quad: Float32[np.ndarray, "N 8"]  # px, the corners as annotated, unclipped; x0 y0 … x3 y3
    category_id: Int32[np.ndarray, " N"]
    object_id: Int32[np.ndarray, " N"]  # index among the image's annotations
    ignore: Bool[np.ndarray, " N"]
    score: Float32[np.ndarray, " N"]  # NaN: none
    track_id: Int32[np.ndarray, " N"]  # -1: none
    text: tuple[str | None, ...]

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if len(self.text) != n:
            raise ValueError(f"Boxes.text has {len(self.text)} rows, xyxy has {n}")
        for name, dtype, row in COLUMNS:
            check_array(f"Boxes.{name}", getattr(self, name), dtype, (n, *row))
        if not (self.xyxy[:, 2:] > self.xyxy[:, :2]).all():  # also fails for NaN
            raise ValueError("Boxes.xyxy has an empty box, expected x0 < x1 and y0 < y1")

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[Boxes]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: RowIndex) -> Boxes:
        rows = select_rows(index, len(self), "boxes")
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self)[:-1]}
        return Boxes(**columns, text=tuple(self.text[i] for i in rows))

    def __repr__(self) -> str:
        facts = {
            "n": len(self),
            "categories": len(np.unique(self.category_id)),
            "ignored": int(self.ignore.sum()),
            "tracks": len(np.unique(self.track_id[self.track_id >= 0])),
        }
        if not facts["tracks"]:
            del facts["tracks"]
        return f"Boxes({', '.join(f'{name}={value}' for name, value in facts.items())})"

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with classes, scores and tracks.

        Raises:
            MissingPackage: supervision is not installed.
        """
        return to_detections(
            xyxy=self.xyxy,
            mask=None,
            class_id=self.category_id,
            confidence=self.score,
            tracker_id=self.track_id,
            data={"ignore": self.ignore},
        )

    @classmethod
    def empty(cls) -> Boxes:
        """Return `Boxes` of length 0."""
        return check_boxes([], {}, (1, 1))[0]

    @classmethod
    def cat(cls, parts: Sequence[Boxes]) -> Boxes:
        """Concatenate boxes of one image."""
        columns = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)[:-1]
        }
        return cls(**columns, text=tuple(text for part in parts for text in part.text))


def check_boxes(
    annotations: Sequence[Annotation], categories: Mapping[str, int], size: tuple[int, int]
) -> tuple[Boxes, list[str]]:
    """Validate the annotations of one image.

    Boxes are clipped to the image. Inverted corners are an error, because the values may be width
    and height instead; readers of datasets with unordered corners sort them first.

    Args:
        annotations: the objects of the image.
        categories: category id by name.
        size: (H, W) of the image, px.

    Returns:
        The valid boxes, and one message for each annotation that is not valid.
    """
    rows, object_ids, problems, track_ids = [], [], [], set[int]()
    for i, annotation in enumerate(annotations):
        points = np.array(annotation.points, np.float64)
        box, problem = _check(points, size)
        if annotation.quad is not None and not problem:
            _, problem = _check(np.array(annotation.quad, np.float64), size)
        if annotation.category not in categories:
            known = ", ".join(list(categories)[:8]) + (", …" if len(categories) > 8 else "")
            name = annotation.category[:60]
            problem = f"category {name!r} is not one of the {len(categories)}: {known}"
            if "\N{REPLACEMENT CHARACTER}" in annotation.category:
                problem += "; the file is not in UTF-8; save it as UTF-8"
        elif annotation.track_id is not None and annotation.track_id in track_ids:
            problem = f"track {annotation.track_id} has more than one box in this frame"
        if problem:
            problems.append(f"{annotation.where}: {problem}")
            continue
        if annotation.track_id is not None:
            track_ids.add(annotation.track_id)
        quad = points if annotation.quad is None else np.array(annotation.quad, np.float64)
        if len(quad) == 4:
            quad = quad[[0, 1, 2, 1, 2, 3, 0, 3]]
        object_ids.append(i)
        rows.append((annotation, box, quad))
    n = len(rows)
    boxes = Boxes(
        xyxy=np.array([box for _, box, _ in rows], np.float32).reshape(n, 4),
        quad=np.array([quad for _, _, quad in rows], np.float32).reshape(n, 8),
        category_id=np.array([categories[a.category] for a, _, _ in rows], np.int32),
        object_id=np.array(object_ids, np.int32),
        ignore=np.array([a.ignore for a, _, _ in rows], bool),
        score=np.array([np.nan if a.score is None else a.score for a, _, _ in rows], np.float32),
        track_id=np.array([-1 if a.track_id is None else a.track_id for a, _, _ in rows], np.int32),
        text=tuple(a.text for a, _, _ in rows),
    )
    return boxes, problems


def _check(points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Return the clipped horizontal box around the points, and its problem ("" for none)."""
    if len(points) not in (4, 8):
        return points, f"{len(points)} coordinates, expected 4 (x0 y0 x1 y1) or 8 (four corners)"
    if not np.isfinite(points).all():
        return points, f"coordinates {_show(points)} are not all numbers"
    if np.abs(points).max() > LARGEST:
        return points, f"coordinates {_show(points)} lie beyond any image"
    xy = points.reshape(-1, 2)
    low, high = xy.min(0), xy.max(0)
    if len(points) == 4 and (xy[1] < xy[0]).any():
        return points, f"{_show(points)} is inverted, expected x0 y0 x1 y1 with x0 < x1, y0 < y1"
    if (xy >= 0).all() and (xy <= 1).all():
        return points, f"{_show(points)} look like fractions of the sides, expected pixels"
    if (high - low < MIN_SIDE).any():
        width, height = high - low
        return points, f"{_show(points)} is {width:g} by {height:g} px, expected 1 by 1 or more"
    limit = np.array(size[::-1], np.float64)
    clipped = np.concatenate([low.clip(0, limit), high.clip(0, limit)])
    if (clipped[2:] - clipped[:2] < MIN_SIDE).any():
        return points, f"{_show(points)} lies outside the image of {size[1]} by {size[0]} px"
    return clipped, ""


def _show(points: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in points)


@dataclass(frozen=True, slots=True)
class FrameAnnotations:
    """The annotations of one frame, and one message for each entry that cannot be parsed."""

    annotations: list[Annotation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, entry: Annotation | str) -> None:
        """Append an annotation, or the message about an entry that cannot be parsed."""
        if isinstance(entry, str):
            self.problems.append(entry)
        else:
            self.annotations.append(entry)

    @property
    def digest(self) -> str:
        """Digest of annotations and messages, without ground-truth masks, which affect no label."""
        objects = [
            [a.category, [*map(float, a.points)], a.ignore, a.score, a.track_id, a.text]
            for a in self.annotations
        ]
        return digest(objects, self.problems)
