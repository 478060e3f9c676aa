"""Read the ISPRS 2D Semantic Labeling Contest (WG III/4); shared by Potsdam and Vaihingen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from alps.errors import ConfigError, DatasetNotFound
from alps.images.files.labels import Labels, colors_to_index, read_colors, refuse_unlabelled
from alps.images.files.listing import contents, walk
from alps.images.pixels.cutting import IGNORE_INDEX, LabelledRaster, Tiles
from alps.structures.records import Category, ImageRecord, Sample, number_classes
from alps.structures.tiles import Tile

logger = logging.getLogger(__name__)

#: Name and colour, in the order of the class numbers.
CLASSES = (
    ("impervious surface", (255, 255, 255)),
    ("building", (0, 0, 255)),
    ("low vegetation", (0, 255, 255)),
    ("tree", (0, 255, 0)),
    ("car", (255, 255, 0)),
    ("clutter", (255, 0, 0)),
)
CLUTTER = 5
BOUNDARY = (0, 0, 0)  # in eroded references: 3 px around every object's edge
#: Kinds of files: image, reference, and reference with eroded boundaries.
IMAGE, FULL, ERODED = "image", "full", "eroded"


@dataclass(frozen=True, slots=True)
class Contest:
    """Description of one of the two datasets."""

    name: str
    title: str
    splits: Mapping[str, str]  # areas by split, separated by spaces
    identify: Callable[[str], tuple[str, str] | None]  # from path to area and kind of a file
    labels: str  # expected label files, for messages; {} is the suffix of those for scoring
    where: str  # expected files and where to download them, for messages

    @property
    def areas(self) -> list[str]:
        """Areas of both splits."""
        return [area for areas in self.splits.values() for area in areas.split()]


class ContestImages:
    """The orthophotos of a contest with their labels, in tiles.

    The training images are the split "train". The contest's test images, whose labels are now
    public, are the split "val". Published scores are computed on "val", so do not use it to choose
    settings that you report. As in the contest, training uses the full labels, and scoring uses the
    labels with eroded boundaries.

    Args:
        root: folder that contains the published files at any depth; the tiles are written into it.
        name: name of the image set. None: the name of the contest.
        num_classes: 5 ignores clutter, as in most published scores; 6 makes it a class.
        eroded: whether to score on the eroded references. None: True if they exist.
        tile_size: height and width of a tile, px.
        overlap: overlap of neighbouring tiles, px.

    Raises:
        ConfigError: ``num_classes`` is neither 5 nor 6.
    """

    contest: ClassVar[Contest]
    ignore_index = IGNORE_INDEX

    def __init__(
        self,
        *,
        root: str,
        name: str | None = None,
        num_classes: int = 5,
        eroded: bool | None = None,
        tile_size: int = 512,
        overlap: int = 0,
    ) -> None:
        if num_classes not in (5, 6):
            raise ConfigError(
                f"dataset.num_classes is {num_classes}, expected 5 (clutter is ignored) or 6"
            )
        self.root = root
        self.name = name or self.contest.name
        self.num_classes = num_classes
        self.eroded = eroded
        self.tile_size = tile_size
        self.overlap = overlap

    @property
    def protocol(self) -> str:
        """Evaluation protocol that scores are reported under."""
        clutter = "clutter ignored" if self.num_classes == 5 else "clutter is one"
        references = "eroded" if self._eroded else "full"
        n = len(self.contest.splits["val"].split())
        return (
            f"{self.contest.title}, the {n} test images in tiles of {self.tile_size}, "
            f"{self.num_classes} classes ({clutter}), {references} references"
        )

    def records(self) -> list[ImageRecord]:
        """Return all tiles; missing ones are cut.

        Raises:
            DatasetNotFound: there is neither an image nor a tile.
            LabelError: an image has no label, or its label cannot be read.
        """
        contest = self.contest
        images = {area: path for (area, kind), path in self._files.items() if kind == IMAGE}
        kinds = {"train": FULL, "val": ERODED if self._eroded else FULL}
        rasters, unlabelled = [], []
        for split, areas in contest.splits.items():
            for area in areas.split():
                label = self._files.get((area, kinds[split]))
                if area in images and label:
                    rasters.append(LabelledRaster(area, split, images[area], label))
                elif area in images:
                    unlabelled.append(images[area].name)
        scored = "_noBoundary" if self._eroded else ""
        refuse_unlabelled(unlabelled, len(images), contest.labels.format(scored))
        self._tiles.cut(rasters)
        records = self._tiles.records()
        if not records:
            root = Path(self.root)
            raise DatasetNotFound(
                f"no image of {contest.title} under {root.absolute()}: found {contents(root)}, "
                f"looked at any depth for {contest.where} and unzip them there, or set "
                "dataset.root to their folder"
            )
        if 0 < len(images) < len(contest.areas):
            logger.warning(
                "%s contains %d of the %d images of %s; scores are not comparable to published "
                "scores",
                self.root,
                len(images),
                len(contest.areas),
                contest.title,
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one tile; raise `ImageError` if it cannot be read."""
        return self._tiles.read(record)

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return number_classes(CLASSES[: self.num_classes])

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one tile; raise `LabelError` if it cannot be read."""
        labels = self._tiles.read_target(record)
        if self.num_classes == 5:
            labels[labels == CLUTTER] = IGNORE_INDEX
        return labels

    @cached_property
    def _files(self) -> dict[tuple[str, str], Path]:
        """Published files by area and kind; copies of a file in two archives are identical."""
        root = Path(self.root)
        paths = [path for path, _ in walk(root)] if root.is_dir() else []
        identified = ((self.contest.identify(path), path) for path in sorted(paths))
        return {
            key: root / path for key, path in identified if key and key[0] in self.contest.areas
        }

    @cached_property
    def _eroded(self) -> bool:
        """Whether scores use the eroded references."""
        if self.eroded is not None:
            return self.eroded
        val = self.contest.splits["val"].split()
        areas = [area for area in val if (area, IMAGE) in self._files]
        all_eroded = all((area, ERODED) in self._files for area in areas)
        return (bool(areas) and all_eroded) or Path(self.root, self._folder + "_eroded").is_dir()

    @property
    def _folder(self) -> str:
        return f"tiles_{self.tile_size}_{self.overlap}"

    @cached_property
    def _tiles(self) -> Tiles:
        return Tiles(
            root=Path(self.root),
            folder=self._folder + ("_eroded" if self._eroded else ""),
            tile_size=self.tile_size,
            stride=self.tile_size - self.overlap,
            tile_name=_tile_name,
            read_label=_read_label,
            colors=[color for _, color in CLASSES],
        )


def _tile_name(area: str, tile: Tile) -> str:
    """Return the tile name used by mmsegmentation's converters potsdam.py and vaihingen.py."""
    return f"{area}_{tile.x0}_{tile.y0}_{tile.x1}_{tile.y1}"


def _read_label(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a colour label as an index map; the boundary in eroded references becomes 255."""
    colors = {color: i for i, (_, color) in enumerate(CLASSES)}
    if path.name.endswith("noBoundary.tif"):
        colors[BOUNDARY] = IGNORE_INDEX
    # All channels are 0 or 255, except in one published file that deviates slightly.
    rgb = cv2.threshold(read_colors(path), 127, 255, cv2.THRESH_BINARY)[1]
    return colors_to_index(rgb, colors, path)
