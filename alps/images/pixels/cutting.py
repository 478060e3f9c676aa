"""Large images with labels, cut once into tiles that lie beside them on disk."""

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

#: Run lengths compress a photograph as well as zlib's level 6 does, seven times faster.
PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
)
IGNORE_INDEX = 255


@dataclass(frozen=True, slots=True)
class Raster:
    """A large image and its labels."""

    name: str  # unique in the dataset; its tiles are called after it
    split: str
    image: Path
    label: Path


@dataclass(frozen=True, slots=True)
class Source:
    """A file that tiles were cut from."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Source:
        """Read the file as it is."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, sha256(path))

    def is_of(self, path: Path) -> bool:
        """Whether the file holds what it held; it is read where its date is another."""
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (self.bytes, self.mtime_ns):
            return True
        return status.st_size == self.bytes and sha256(path) == self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The tiles of a dataset, laid out and called as mmsegmentation's converters do.

    ::

        img_dir/<split>/<tile>.png                   alpha 0 is no data; no alpha where all is data
        ann_dir/<split>/<tile><label_suffix>.png     index maps, 255 is ignored
        cut/<raster>.json      the raster's tiles; written last, so they are all there

    Once cut, the rasters are not needed any more. One that is still there and holds something else
    by now, or whose label does, is cut again.

    Args:
        root: of the dataset.
        folder: of the tiles, below the root.
        tile_size: height and width in pixels; what is smaller is padded with no-data, whose label
            is 255.
        stride: pixels from tile to tile; the last one is moved inwards.
        tile_name: of a raster's name and the window.
        read_label: the index map of a label file.
        colors: of the classes, for the palettes of the index maps.
        label_suffix: what the names of index maps end with.

    Raises:
        ConfigError: the stride leaves gaps.
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
                "the tile's size, that is an overlap from 0 to less than it; change "
                "dataset.tile_size, dataset.stride or dataset.overlap"
            )

    @property
    def path(self) -> Path:
        """Where the tiles lie."""
        return self.root / self.folder

    def cut(self, rasters: Sequence[Raster]) -> None:
        """Cut the rasters that are not cut as they are; several processes may ask for it at once.

        Raises:
            DatasetNotFound: the tiles cannot be written.
            ImageError: an image cannot be read.
            LabelError: a label cannot be read or contradicts its image.
        """
        if not self._missing(rasters):
            return
        try:
            (self.path / "cut").mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / "cut/.lock"):
                if missing := self._missing(rasters):  # none, if another process has been here
                    self._cut_all(missing)
        except OSError as error:
            raise DatasetNotFound(
                f"cannot write tiles to {self.path.absolute()}: {error.strerror or error}; free or "
                "permit the place, or link the dataset's files into another folder and give that "
                "as dataset.root; what is cut is kept"
            ) from error

    def records(self) -> list[ImageRecord]:
        """The tiles of all rasters that were cut."""
        records = []
        for mark in sorted((self.path / "cut").glob("*.json")):
            done = json.loads(mark.read_text())
            folder = f"{self.folder}/img_dir/{done['split']}"
            records += [
                ImageRecord(tile, f"{folder}/{tile}.png", done["split"], size)
                for tile, size in done["tiles"].items()
            ]
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Decode one tile; raises `ImageError` when it cannot be used."""
        return read_sample(self.root, record)

    def read_target(self, record: ImageRecord) -> Labels:
        """The index map of one tile; raises `LabelError` when it cannot be used."""
        return read_labels(self._label_path(record.split, record.image_id))

    def _label_path(self, split: str, tile: str) -> Path:
        return self.path / "ann_dir" / split / f"{tile}{self.label_suffix}.png"

    def _missing(self, rasters: Sequence[Raster]) -> list[Raster]:
        return [raster for raster in rasters if not self._is_cut(raster)]

    def _mark(self, raster: Raster) -> Path:
        return self.path / "cut" / f"{raster.name}.json"

    def _is_cut(self, raster: Raster) -> bool:
        """Whether the tiles are those of the raster and its label as they are now."""
        if not self._mark(raster).is_file():
            return False
        done = json.loads(self._mark(raster).read_text())
        if "sources" not in done:  # by an older ALPS, which read TIFF and padded otherwise
            size = read_size(raster.image)
            padded = size is not None and min(size) < self.tile_size
            return raster.image.suffix.lower() not in (".tif", ".tiff") and not padded
        sources = [Source(**source) for source in done["sources"]]
        return all(
            source.is_of(path)
            for source, path in zip(sources, (raster.image, raster.label), strict=True)
        )

    def _cut_all(self, rasters: Sequence[Raster]) -> None:
        for split in {raster.split for raster in rasters}:
            for kind in ("img_dir", "ann_dir"):
                (self.path / kind / split).mkdir(parents=True, exist_ok=True)
        sizes = {raster: raster.image.stat().st_size for raster in rasters}
        title, total = f"cutting into {self.path}", sum(sizes.values())
        # Threads: the time goes into cv2's encoder, which lets others run.
        with (
            tqdm(desc=title, total=total, unit="B", unit_scale=True) as bar,
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        ):
            work = {pool.submit(self._cut_one, raster): size for raster, size in sizes.items()}
            try:
                for done in as_completed(work):
                    done.result()
                    bar.update(work[done])
            finally:  # after an error or an interrupt, start no other raster
                pool.shutdown(cancel_futures=True)

    def _cut_one(self, raster: Raster) -> None:
        # Before they are read: what changes in between is cut again.
        sources = [Source.of(path) for path in (raster.image, raster.label)]
        labels = self.read_label(raster.label)
        pixels = read_pixels(raster.image)
        image = pixels.image
        if image.shape[:2] != labels.shape:
            raise LabelError(
                f"{raster.label} has {labels.shape[0]} x {labels.shape[1]} pixels and its image "
                f"{raster.image} {image.shape[0]} x {image.shape[1]}, expected the same; get both "
                "as they were published"
            )
        valid = np.ones(labels.shape, dtype=bool) if pixels.valid is None else pixels.valid
        labels = ignore_nodata(labels, pixels.valid, IGNORE_INDEX)
        below, right = (max(0, self.tile_size - length) for length in labels.shape)
        if below or right:
            image = np.pad(image, ((0, below), (0, right), (0, 0)))
            labels = np.pad(labels, ((0, below), (0, right)), constant_values=IGNORE_INDEX)
            valid = np.pad(valid, ((0, below), (0, right)))
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
        done = {"split": raster.split, "tiles": sizes, "sources": [asdict(s) for s in sources]}
        part.write_text(json.dumps(done))
        part.replace(self._mark(raster))


def _encode(image: UInt8[np.ndarray, "H W 3"], valid: Bool[np.ndarray, "H W"]) -> bytes:
    """Encode a tile as PNG, with alpha 0 where it is no data; without alpha where all is data.

    Readers of three bands, as mmsegmentation's, drop the alpha.
    """
    bands = image[..., ::-1]
    if not valid.all():
        bands = np.dstack([bands, valid * np.uint8(255)])
    data: bytes = cv2.imencode(".png", bands, PNG)[1].tobytes()
    return data


def tile_grid(size: tuple[int, int], tile_size: int, stride: int) -> list[Tile]:
    """Tiles of an image of ``size`` (H, W) that start every ``stride`` pixels, row by row.

    The grid of mmsegmentation's converters for Potsdam and iSAID: a tile that would reach beyond
    the image is moved inwards, and those that then coincide are one.

    >>> [(t.x0, t.x1) for t in tile_grid((512, 1200), tile_size=512, stride=512)]
    [(0, 512), (512, 1024), (688, 1200)]
    """
    rows, columns = (
        sorted({min(start, length - tile_size) for start in range(0, length, stride)})
        for length in size
    )
    return [Tile(x, y, x + tile_size, y + tile_size) for y in rows for x in columns]
