"""Read iSAID: 2,806 images of DOTA-v1.0 with 15 object classes (Zamir et al., arXiv 1905.12886)."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alps.errors import DatasetNotFound
from alps.images.files.labels import Labels, colors_to_index, read_colors, refuse_unlabelled
from alps.images.files.listing import contents, walk
from alps.images.pixels.cutting import IGNORE_INDEX, LabelledRaster, Tiles
from alps.structures.records import Category, ImageRecord, Sample, number_classes
from alps.structures.tiles import Tile

logger = logging.getLogger(__name__)

URL = "https://captain-whu.github.io/iSAID/dataset.html"
#: Name and colour, in the order of the class numbers (CAPTAIN-WHU/iSAID_Devkit, labels.py).
CLASSES = (
    ("background", (0, 0, 0)),
    ("ship", (0, 0, 63)),
    ("storage tank", (0, 63, 63)),
    ("baseball diamond", (0, 63, 0)),
    ("tennis court", (0, 63, 127)),
    ("basketball court", (0, 63, 191)),
    ("ground track field", (0, 63, 255)),
    ("bridge", (0, 127, 63)),
    ("large vehicle", (0, 127, 127)),
    ("small vehicle", (0, 0, 127)),
    ("helicopter", (0, 0, 191)),
    ("swimming pool", (0, 0, 255)),
    ("roundabout", (0, 191, 127)),
    ("soccer ball field", (0, 127, 191)),
    ("plane", (0, 127, 255)),
    ("harbor", (0, 100, 155)),
)
LABEL_SUFFIX = "_instance_color_RGB"
FILE = re.compile(rf"(P\d+)({LABEL_SUFFIX})?\.png")
LAYOUT = (
    "{train,val}/images/P0000.png and "
    f"{{train,val}}/Semantic_masks/images/P0000{LABEL_SUFFIX}.png"
)


class Isaid:
    """The training and validation images with their semantic masks, in tiles.

    The test images have no public labels and are skipped. Files may be at any depth below ``train``
    and ``val``, in the folders of the archives or in a single folder, as the devkit expects.

    Args:
        root: folder that contains train and val; the tiles are written into it.
        name: name of the image set.
        tile_size: height and width of a tile, px.
        stride: distance between tiles, px.
    """

    ignore_index = IGNORE_INDEX  # only for padding: all pixels have a class
    background = 0  # SAMRS excludes it from mean scores

    def __init__(
        self, *, root: str, name: str = "isaid", tile_size: int = 896, stride: int = 512
    ) -> None:
        self.root = root
        self.name = name
        self.protocol = (
            f"iSAID val, in tiles of {tile_size} every {stride} px, 16 classes (background is one)"
        )
        self._tiles = Tiles(
            root=Path(root),
            folder=f"tiles_{tile_size}_{stride}",
            tile_size=tile_size,
            stride=stride,
            tile_name=_tile_name,
            read_label=_read_label,
            colors=[color for _, color in CLASSES],
            label_suffix=LABEL_SUFFIX,
        )

    def records(self) -> list[ImageRecord]:
        """Return all tiles; missing ones are cut.

        Raises:
            DatasetNotFound: there is neither an image nor a tile.
            LabelError: an image has no mask, or its mask cannot be read.
        """
        root = Path(self.root)
        self._tiles.cut([*_rasters(root, "train"), *_rasters(root, "val")])
        records = self._tiles.records()
        if not records:
            raise DatasetNotFound(
                f"no image of iSAID under {root.absolute()}: found {contents(root)}, in train "
                f"{contents(root / 'train')}, looked for {LAYOUT}; download the masks from {URL} "
                "and the images of DOTA-v1.0 (linked on that page) and unzip them there, or set "
                "dataset.root to their folder"
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one tile; raise `ImageError` if it cannot be read."""
        return self._tiles.read(record)

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return number_classes(CLASSES)

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one tile; raise `LabelError` if it cannot be read."""
        return self._tiles.read_target(record)


def _rasters(root: Path, split: str) -> list[LabelledRaster]:
    """Return the images of a split with their masks."""
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path, _ in walk(root / split) if (root / split).is_dir() else ():
        if match := FILE.fullmatch(path.rsplit("/", 1)[-1]):
            (labels if match[2] else images)[match[1]] = root / split / path
    refuse_unlabelled(
        [f"{split}/{name}" for name in sorted(images.keys() - labels.keys())],
        len(images),
        f"{LAYOUT} (Semantic_masks at {URL})",
    )
    if unmatched := sorted(labels.keys() - images.keys()):
        logger.warning(
            "%d of %d masks of iSAID's %s have no image (first: %s); download all parts of "
            "DOTA-v1.0",
            len(unmatched),
            len(labels),
            split,
            unmatched[0],
        )
    return [LabelledRaster(name, split, images[name], labels[name]) for name in sorted(images)]


def _tile_name(image: str, tile: Tile) -> str:
    """Return the tile name used by mmsegmentation's tools/dataset_converters/isaid.py."""
    return f"{image}_{tile.y0}_{tile.y1}_{tile.x0}_{tile.x1}"


def _read_label(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a colour mask as an index map."""
    colors = {color: i for i, (_, color) in enumerate(CLASSES)}
    return colors_to_index(read_colors(path), colors, path)
