"""ISPRS Potsdam: 38 true orthophotos of 6000 × 6000 pixels at 5 cm, six classes.

2D Semantic Labeling Contest, ISPRS WG III/4 (imagery by BSF Swissphoto).
"""

from __future__ import annotations

import logging
import re
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from alps.errors import ConfigError, DatasetNotFound
from alps.geometry import Tile
from alps.images.cutting import IGNORE_INDEX, Raster, Tiles
from alps.images.folder import contents, walk
from alps.images.labels import Labels, colors_to_index, read_colors, refuse_unlabelled
from alps.types import Category, ImageRecord, Sample

logger = logging.getLogger(__name__)

URL = "https://www.isprs.org/education/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx"
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
BOUNDARY = (0, 0, 0)  # in eroded references: 3 pixels about every object's edge
#: The official split. The labels of the test images are public by now, so they are read as "val".
SPLITS = {
    "train": "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 "
    "6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12",
    "val": "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
}
FILE = re.compile(r"top_potsdam_(\d+_\d+)_(RGB|label|label_noBoundary)\.tif")


class Potsdam:
    """The RGB orthophotos with their labels, in tiles.

    The 24 training images are the split "train", the 14 test images of the contest are "val": what
    is scored there is the published benchmark, so choose no settings by it that you then report.
    Training uses the full labels, scoring those with eroded boundaries, as the contest does.

    Args:
        root: folder that holds the published files at any depth; the tiles are written into it.
        name: what the image set is called.
        num_classes: 5: clutter is ignored, as in most published scores; 6: it is a class.
        eroded: score on the eroded references; None: if they are there.
        tile_size: in pixels.
        overlap: of neighbouring tiles, in pixels.

    Raises:
        ConfigError: another number of classes.
    """

    ignore_index = IGNORE_INDEX

    def __init__(
        self,
        *,
        root: str,
        name: str = "potsdam",
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
        self.name = name
        self.num_classes = num_classes
        self.eroded = eroded
        self.tile_size = tile_size
        self.overlap = overlap

    @property
    def protocol(self) -> str:
        """How scores are to be read."""
        clutter = "clutter ignored" if self.num_classes == 5 else "clutter is one"
        references = "eroded" if self._eroded else "full"
        return (
            f"ISPRS Potsdam, the 14 test images in tiles of {self.tile_size}, "
            f"{self.num_classes} classes ({clutter}), {references} references"
        )

    def records(self) -> list[ImageRecord]:
        """All tiles, cut where they are not there yet.

        Raises:
            DatasetNotFound: there is neither an image nor a tile.
            LabelError: an image has no label, or one that cannot be used.
        """
        images = {area: path for (area, kind), path in self._files.items() if kind == "RGB"}
        references = "label_noBoundary" if self._eroded else "label"
        kinds = {"train": "label", "val": references}
        rasters, unlabelled = [], []
        for split, areas in SPLITS.items():
            for area in areas.split():
                label = self._files.get((area, kinds[split]))
                if area in images and label:
                    rasters.append(Raster(area, split, images[area], label))
                elif area in images:
                    unlabelled.append(images[area].name)
        refuse_unlabelled(
            unlabelled,
            len(images),
            f"top_potsdam_*_label.tif for training and top_potsdam_*_{references}.tif for scoring "
            "(5_Labels_all.zip, 5_Labels_all_noBoundary.zip; dataset.eroded=false takes the first "
            "for both)",
        )
        self._tiles.cut(rasters)
        records = self._tiles.records()
        if not records:
            root = Path(self.root)
            raise DatasetNotFound(
                f"no image of ISPRS Potsdam under {root.absolute()}: found {contents(root)}, "
                "looked at any depth for top_potsdam_2_10_RGB.tif, top_potsdam_2_10_label.tif and "
                f"so on; get 2_Ortho_RGB.zip and 5_Labels_all.zip from {URL} and unzip them "
                "there, or give their folder as dataset.root"
            )
        if 0 < len(images) < 38:
            logger.warning(
                "%s holds %d of the 38 images of ISPRS Potsdam; scores are not those of the "
                "benchmark",
                self.root,
                len(images),
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Decode one tile; raises `ImageError` when it cannot be used."""
        return self._tiles.read(record)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        return [Category(i, *both) for i, both in enumerate(CLASSES[: self.num_classes])]

    def read_target(self, record: ImageRecord) -> Labels:
        """The index map of one tile; raises `LabelError` when it cannot be used."""
        labels = self._tiles.read_target(record)
        if self.num_classes == 5:
            labels[labels == CLUTTER] = IGNORE_INDEX
        return labels

    @cached_property
    def _files(self) -> dict[tuple[str, str], Path]:
        """The published files by area and kind; those of two archives are the same."""
        root = Path(self.root)
        paths = [path for path, _ in walk(root)] if root.is_dir() else []
        matches = ((FILE.fullmatch(path.rsplit("/", 1)[-1]), path) for path in sorted(paths))
        return {(match[1], match[2]): root / path for match, path in matches if match}

    @cached_property
    def _eroded(self) -> bool:
        if self.eroded is not None:
            return self.eroded
        areas = [area for area in SPLITS["val"].split() if (area, "RGB") in self._files]
        there = all((area, "label_noBoundary") in self._files for area in areas)
        return (bool(areas) and there) or Path(self.root, self._folder + "_eroded").is_dir()

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
    """As mmsegmentation's tools/dataset_converters/potsdam.py."""
    return f"{area}_{tile.x0}_{tile.y0}_{tile.x1}_{tile.y1}"


def _read_label(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Six classes and, in eroded references alone, the boundary as 255."""
    colors = {color: i for i, (_, color) in enumerate(CLASSES)}
    if path.name.endswith("noBoundary.tif"):
        colors[BOUNDARY] = IGNORE_INDEX
    # All channels are 0 or 255, but for one published file that is off by a few.
    rgb = cv2.threshold(read_colors(path), 127, 255, cv2.THRESH_BINARY)[1]
    return colors_to_index(rgb, colors, path)
