"""Cut large labelled images into tiles, and store the tiles in the dataset's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from jaxtyping import Bool, UInt8
from tqdm import tqdm

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.files.header import read_size
from alps.images.files.labels import Labels, read_labels
from alps.images.files.read import read_pixels, read_sample
from alps.store.manifest import sha256
from alps.structures.paint import ignore_nodata
from alps.structures.palette import index_png
from alps.structures.records import ImageRecord, Sample
from alps.structures.tiles import Tile

#: Run-length encoding compresses photographs as well as zlib level 6 and is seven times faster.
PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
)
IGNORE_INDEX = 255


@dataclass(frozen=True, slots=True)
class LabelledRaster:
    """A large image and its label file."""

    name: str  # unique in the dataset; the names of its tiles start with it
    split: str
    image: Path
    label: Path


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Size, modification time and hash of a file from which tiles were cut."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def read(cls, path: Path) -> SourceFile:
        """Return the current state of a file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, sha256(path))

    def matches(self, path: Path) -> bool:
        """Return whether a file is unchanged; it is hashed only if the timestamp differs."""
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (self.bytes, self.mtime_ns):
            return True
        return status.st_size == self.bytes and sha256(path) == self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The tiles of a dataset, with the folders and names of mmsegmentation's converters.

    ::

        img_dir/<split>/<tile>.png                   alpha 0 is nodata; no alpha if all is valid
        ann_dir/<split>/<tile><label_suffix>.png     index maps, 255 is ignored
        cut/<raster>.json      list of the raster's tiles; written after the tiles

    Once cut, the rasters are no longer needed. A raster that still exists is cut again if the
    raster or its label file has changed.

    Args:
        root: folder of the dataset.
        folder: folder of the tiles, relative to the root.
        tile_size: height and width of a tile, px. Smaller images are padded with nodata, and their
            labels with 255.
        stride: distance between tiles, px; the last tile is moved inwards.
        tile_name: function from a raster's name and the window to the tile's name.
        read_label: function that reads the index map of a label file.
        colors: class colours for the palettes of the index maps.
        label_suffix: suffix of the names of index maps.

    Raises:
        ConfigError: the stride would leave gaps between tiles.
    """

    root: Path
    folder: str
    tile_size: int
    stride: int
    tile_name: Callable[[str, Tile], str]
    read_label: Callable[[Path], UInt8[np.ndarray, "H W"]]
    colors: list[tuple[int, int, int]]
    label_suffix: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.tile_size:
            raise ConfigError(
                f"tiles of {self.tile_size} px every {self.stride} px: expected a stride from 1 to "
                "the tile size, or an overlap from 0 to less than the tile size; change "
                "dataset.tile_size, dataset.stride or dataset.overlap"
            )

    @property
    def path(self) -> Path:
        """Folder of the tiles."""
        return self.root / self.folder

    def cut(self, rasters: Sequence[LabelledRaster]) -> None:
        """Cut new and changed rasters; several processes may call it at once.

        Raises:
            DatasetNotFound: the tiles cannot be written.
            ImageError: an image cannot be read.
            LabelError: a label cannot be read or contradicts its image.
        """
        if not self._outdated(rasters):
            return
        try:
            (self.path / "cut").mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / "cut/.lock"):
                if outdated := self._outdated(rasters):  # empty if another process has cut them
                    self._cut_all(outdated)
        except OSError as error:
            raise DatasetNotFound(
                f"cannot write tiles to {self.path.absolute()}: {error.strerror or error}; "
                "free disk space or fix the permissions, or link the dataset's files into another "
                "folder and set dataset.root to it; finished tiles are kept"
            ) from error

    def records(self) -> list[ImageRecord]:
        """Return the tiles of all cut rasters."""
        records = []
        for mark in sorted((self.path / "cut").glob("*.json")):
            content = json.loads(mark.read_text())
            folder = f"{self.folder}/img_dir/{content['split']}"
            records += [
                ImageRecord(tile, f"{folder}/{tile}.png", content["split"], size)
                for tile, size in content["tiles"].items()
            ]
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one tile; raise `ImageError` if it cannot be read."""
        return read_sample(self.root, record)

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one tile; raise `LabelError` if it cannot be read."""
        return read_labels(self._label_path(record.split, record.image_id))

    def _label_path(self, split: str, tile: str) -> Path:
        """Return the index map file of a tile."""
        return self.path / "ann_dir" / split / f"{tile}{self.label_suffix}.png"

    def _outdated(self, rasters: Sequence[LabelledRaster]) -> list[LabelledRaster]:
        """Return the rasters whose tiles are missing or outdated."""
        return [raster for raster in rasters if not self._is_cut(raster)]

    def _mark_path(self, raster: LabelledRaster) -> Path:
        """Return the file that marks a raster as cut."""
        return self.path / "cut" / f"{raster.name}.json"

    def _is_cut(self, raster: LabelledRaster) -> bool:
        """Return whether the tiles match the current raster and label."""
        if not self._mark_path(raster).is_file():
            return False
        content = json.loads(self._mark_path(raster).read_text())
        if "sources" not in content:
            # Cut by an earlier version, which read TIFF and padded differently.
            size = read_size(raster.image)
            padded = size is not None and min(size) < self.tile_size
            return raster.image.suffix.lower() not in (".tif", ".tiff") and not padded
        sources = [SourceFile(**source) for source in content["sources"]]
        return all(
            source.matches(path)
            for source, path in zip(sources, (raster.image, raster.label), strict=True)
        )

    def _cut_all(self, rasters: Sequence[LabelledRaster]) -> None:
        """Cut rasters in parallel, with a progress bar in bytes."""
        for split in {raster.split for raster in rasters}:
            for kind in ("img_dir", "ann_dir"):
                (self.path / kind / split).mkdir(parents=True, exist_ok=True)
        sizes = {raster: raster.image.stat().st_size for raster in rasters}
        title, total = f"cutting into {self.path}", sum(sizes.values())
        # Threads suffice: most of the time is spent in cv2's encoder, which releases the GIL.
        with (
            tqdm(desc=title, total=total, unit="B", unit_scale=True) as bar,
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        ):
            jobs = {pool.submit(self._cut_one, raster): size for raster, size in sizes.items()}
            try:
                for job in as_completed(jobs):
                    job.result()
                    bar.update(jobs[job])
            finally:  # after an error or interrupt, do not start the next raster
                pool.shutdown(cancel_futures=True)

    def _cut_one(self, raster: LabelledRaster) -> None:
        """Write the tiles of one raster, then its mark."""
        # Record the state before reading: a file that changes meanwhile is then cut again.
        sources = [SourceFile.read(path) for path in (raster.image, raster.label)]
        labels = self.read_label(raster.label)
        pixels = read_pixels(raster.image)
        image = pixels.image
        if image.shape[:2] != labels.shape:
            raise LabelError(
                f"{raster.label} has {labels.shape[0]} x {labels.shape[1]} pixels, and its image "
                f"{raster.image} {image.shape[0]} x {image.shape[1]}, expected the same; use "
                "the published files"
            )
        valid = np.ones(labels.shape, dtype=bool) if pixels.valid is None else pixels.valid
        labels = ignore_nodata(labels, pixels.valid, IGNORE_INDEX)
        bottom, right = (max(0, self.tile_size - length) for length in labels.shape)
        if bottom or right:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)))
            labels = np.pad(labels, ((0, bottom), (0, right)), constant_values=IGNORE_INDEX)
            valid = np.pad(valid, ((0, bottom), (0, right)))
        sizes = {}
        for tile in tile_grid((labels.shape[0], labels.shape[1]), self.tile_size, self.stride):
            window = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
            name = self.tile_name(raster.name, tile)
            png = _encode(image[window], valid[window])
            (self.path / "img_dir" / raster.split / f"{name}.png").write_bytes(png)
            index = index_png(np.ascontiguousarray(labels[window]), self.colors, IGNORE_INDEX)
            self._label_path(raster.split, name).write_bytes(index)
            sizes[name] = len(png)
        part = self.path / "cut" / f".{raster.name}.part"
        content = {"split": raster.split, "tiles": sizes, "sources": [asdict(s) for s in sources]}
        part.write_text(json.dumps(content))
        part.replace(self._mark_path(raster))


def _encode(image: UInt8[np.ndarray, "H W 3"], valid: Bool[np.ndarray, "H W"]) -> bytes:
    """Encode a tile as PNG, with alpha 0 for nodata; without alpha if all pixels are valid."""
    # Programs that read three bands, such as mmsegmentation, ignore alpha.
    bands = image[..., ::-1]
    if not valid.all():
        bands = np.dstack([bands, valid * np.uint8(255)])
    data: bytes = cv2.imencode(".png", bands, PNG)[1].tobytes()
    return data


def tile_grid(size: tuple[int, int], tile_size: int, stride: int) -> list[Tile]:
    """Return the tiles of an image, row by row.

    A tile that would extend beyond the image is moved inwards, and equal tiles are listed once, as
    in mmsegmentation's converters for Potsdam and iSAID.

    >>> [(t.x0, t.x1) for t in tile_grid((512, 1200), tile_size=512, stride=512)]
    [(0, 512), (512, 1024), (688, 1200)]

    Args:
        size: (H, W) of the image, px, each at least ``tile_size``.
        tile_size: height and width of a tile, px.
        stride: distance between tiles, px.

    Returns:
        The windows, row by row.
    """
    rows, columns = (
        sorted({min(start, length - tile_size) for start in range(0, length, stride)})
        for length in size
    )
    return [Tile(x, y, x + tile_size, y + tile_size) for y in rows for x in columns]
