"""The layout of a label store on disk, in standard formats only.

Stores are written shard by shard and each file atomically, so a killed run resumes where it
stopped::

    store.json            contents and settings of the store; written first
    config.yaml           the resolved configuration
    plan.parquet          the shard of each image; never changes
    findings.json         inconsistencies of the dataset; a list, usually empty
    images/00000.parquet  one row per image: status, size, number of masks, valid pixels
    features/00000.npy    float16 (N, C), rows aligned with masks/00000.parquet
    masks/00000.parquet   one row per mask, SA-1B field names; its presence commits the shard
    clusters/             the arrays of `Clusters` that are not None: centroids.npy, counts.npy, …
    labels/00000.parquet  one row per mask: category_id, distance; its presence commits the labels
    objects/              if images are windows of rasters: the pieces of each object
    ann/<split>/<id>.png  index maps; ignore_index in unlabelled and no-data pixels
    ann/<split>/<id>.tif  the index map of a raster, with its georeference
    statistics/           tables and figures about the contents
    evaluation.json       scores of the labels, if they were compared with ground truth
    categories.json, report.html, manifest.json

A stage's fingerprint is the hash of the settings that change its output and of its parent's
fingerprint. All files of a stage were made with its fingerprint in store.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from alps.errors import StoreError
from alps.structures import rle
from alps.structures.georeference import Georeference
from alps.structures.records import ImageRecord
from alps.structures.windows import raster_id

SCHEMA_VERSION = 1
OVERLAP_RULE = "small over large, equal areas: higher mask_id on top"

Stage = Literal["masks", "features", "assign"]
STAGES: tuple[Stage, ...] = ("masks", "features", "assign")
#: Data that runs exchange while they fit clusters together; removed when the store is complete.
PARTS = ".parts"
#: Inconsistencies of the dataset.
FINDINGS = "findings.json"
#: Outputs of each stage; redoing a stage deletes them and those of later stages.
OUTPUTS: Mapping[Stage, tuple[str, ...]] = {
    "masks": ("plan.parquet", FINDINGS, "masks", "images"),
    "features": ("features", "objects"),
    "assign": (
        *(PARTS, "clusters", "labels", "ann", "categories.json", "report.html", "statistics"),
        *("choose_k.html", "evaluation.json", "evaluation.html"),
        "manifest.json",
    ),
}
#: The folder in which the file of a shard marks the shard as processed.
COMMITS: Mapping[Stage, str] = {"masks": "masks", "features": "features", "assign": "labels"}


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """The status of one image: a row of images/.

    >>> ImageStatus("park", "ok", None, height=512, width=512, n_masks=57, covered=131072).coverage
    0.5
    """

    image_id: str
    status: Literal["ok", "empty", "failed"]  # empty: no masks, or no valid pixels
    error: str | None
    height: int
    width: int
    n_masks: int
    covered: int  # pixels inside at least one mask
    dropped: int = 0  # annotations that could not be used
    # Valid pixels as compressed COCO RLE; None: all pixels are valid.
    valid: bytes | None = field(default=None, repr=False)
    # Hash of the file when it was read; None: unknown.
    sha256: str | None = field(default=None, repr=False)
    # Georeference of the image, or of the raster whose window it is; None: unknown.
    georeference: Georeference | None = field(default=None, repr=False)

    @property
    def pixels(self) -> int:
        """Number of valid pixels."""
        if self.valid is None:
            return self.height * self.width
        return int(rle.area([self.valid], (self.height, self.width))[0])

    @property
    def nodata(self) -> int:
        """Number of no-data pixels."""
        return self.height * self.width - self.pixels

    @property
    def coverage(self) -> float:
        """Fraction of the valid pixels that lie inside at least one mask."""
        return self.covered / max(self.pixels, 1)

    def read_valid(self) -> Bool[np.ndarray, "H W"] | None:
        """Decode the valid mask; None: all pixels are valid."""
        return None if self.valid is None else rle.decode(self.valid, (self.height, self.width))


def index_map_path(record: ImageRecord) -> str:
    """Return the file of the index map of an image; the windows of a raster share one file.

    >>> index_map_path(ImageRecord("town/3", "town/3.jpg"))
    'ann/train/town/3.png'
    >>> from alps.structures.tiles import Tile
    >>> window = Tile(896, 0, 1920, 1024)
    >>> index_map_path(ImageRecord("town/000000_000896", "town.tif", window=window))
    'ann/train/town.tif'
    """
    if record.window is None:
        return f"ann/{record.split}/{record.image_id}.png"
    return f"ann/{record.split}/{raster_id(record.image_id)}.tif"


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The contents of store.json."""

    name: str
    images: Mapping[str, Any]  # class, arguments and root of the image set
    ignore_index: int
    num_classes: int
    versions: Mapping[str, str]
    stages: Mapping[Stage, Mapping[str, Any]]  # stage → {fingerprint, identity}
    overlap: str = OVERLAP_RULE
    schema_version: int = SCHEMA_VERSION


def read_info(root: Path) -> StoreInfo:
    """Return the contents of store.json.

    Raises:
        StoreError: there is no store at ``root``, it is damaged, or a newer ALPS wrote it.
    """
    path = root / "store.json"
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(
            f"no label store at {root} (store.json is missing); make one with label.py"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    try:
        if raw["schema_version"] != SCHEMA_VERSION:
            raise StoreError(
                f"{root} has schema version {raw['schema_version']}, but this ALPS reads version "
                f"{SCHEMA_VERSION}; use the ALPS that wrote it ({raw['versions'].get('alps')})"
            )
        return StoreInfo(**raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {error}); to repair it, repeat the "
            "label.py command that made the store, with verify=true"
        ) from error
