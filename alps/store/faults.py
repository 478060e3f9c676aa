"""Find damaged files of a label store; no file is changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int
from PIL import Image

from alps.errors import ImageError
from alps.rasters.index_map import read_index_map
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus, Stage, index_map_path
from alps.store.objects import OBJECTS, ObjectPieces
from alps.store.raster_maps import Paint, RasterPainter
from alps.store.tables import IMAGES, LABELS, MASKS, table_to_masks, table_to_statuses
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import count_covered, ignore_nodata
from alps.structures.records import Category, Clusters
from alps.structures.tiles import Tile

#: Folders of the tables from which the index maps of rasters are drawn.
TABLES = ("images/", "masks/", "objects/", "labels/")
#: Columns that every version writes and that are never null.
REQUIRED = (*MASKS.names[:6], "status", "height", "width", "n_masks", "covered", "category_id")


@dataclass(frozen=True, slots=True)
class Fault:
    """A damaged or missing file."""

    file: str  # relative to the store
    problem: str


class DamagedFile(Exception):
    """Raised for a damaged file; `fault` describes it."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(file, problem)
        self.fault = Fault(file, problem)


def find_faults(
    store: LabelStore, shard: int, paint: Paint, damaged: Collection[str]
) -> Iterator[Fault]:
    """Yield at most one fault for each existing file of a shard.

    Args:
        store: the store; it may be unfinished, because missing files are not faults.
        shard: number of the shard.
        paint: function that drew the index maps.
        damaged: files known to be damaged; they are not opened.
    """
    images, masks, features, labels = (
        f"{folder}/{shard:05d}.{suffix}"
        for folder, suffix in (
            *(("images", "parquet"), ("masks", "parquet"), ("features", "npy")),
            ("labels", "parquet"),
        )
    )
    if not (store.root / masks).exists():
        return  # the next run makes all other files of the shard again
    by_image: dict[str, Masks] | None = None
    if not {images, masks} & {*damaged}:
        try:
            by_image = check_masks(store, images, masks, shard)
        except DamagedFile as error:
            yield error.fault
    n = None if by_image is None else sum(map(len, by_image.values()))
    if "features" in store.info.stages and (store.root / features).exists():
        try:
            if features not in damaged:
                check_features(store, features, n)
        except DamagedFile as error:
            yield error.fault
    if by_image is not None and labels not in damaged and (store.root / labels).exists():
        try:
            ids = check_labels(store, labels, by_image)
        except DamagedFile as error:
            yield error.fault
            return
        if store.has_windows:  # `check_raster_maps` checks the maps
            yield from check_objects(store, shard, sum(map(len, by_image.values())))
        else:
            yield from check_maps(store, shard, by_image, ids, paint, damaged)


def check_masks(store: LabelStore, images: str, masks: str, shard: int) -> dict[str, Masks]:
    """Return the masks of a shard by image, like `Shard.masks`, after checking its tables.

    Args:
        store: the store.
        images: file of the image table.
        masks: file of the mask table.
        shard: number of the shard.

    Raises:
        DamagedFile: one of the tables is damaged.
    """
    statuses = table_to_statuses(read_table(store, images, IMAGES, "masks"))
    planned = [record.image_id for record in store.plan[shard]]
    if [status.image_id for status in statuses] != planned:
        raise DamagedFile(images, f"its images differ from the {len(planned)} in plan.parquet")
    for s in statuses:
        if s.valid is not None and (problem := rle.find_problem(s.valid, (s.height, s.width))):
            raise DamagedFile(images, f"valid pixels of {s.image_id}: {problem}")
        readable = s.height > 0 and s.width > 0 and s.error is None
        expected = "failed" if not readable else "ok" if s.n_masks > 0 else "empty"
        if s.status != expected or min(s.height, s.width, s.n_masks) < 0:
            raise DamagedFile(
                images,
                f"{s.image_id} is {s.status!r} with {s.n_masks} masks, {s.height} x {s.width} px",
            )
    table = read_table(store, masks, MASKS, "masks")
    rows = sum(status.n_masks for status in statuses)
    if len(table) != rows:
        raise DamagedFile(masks, f"{len(table)} rows, but {images} counts {rows} masks")
    by_image: dict[str, Masks] = {}
    start = 0
    for status in statuses:
        part = table.slice(start, status.n_masks)
        start += status.n_masks
        if status.status != "failed":
            by_image[status.image_id] = _check_rows(part, status, masks)
            if (pixels := count_covered(by_image[status.image_id])) != status.covered:
                raise DamagedFile(
                    images,
                    f"{status.image_id}: covered={status.covered}, but its masks cover {pixels}",
                )
    return by_image


def _check_rows(table: pa.Table, status: ImageStatus, file: str) -> Masks:
    """Check and return the masks of one image."""
    size, where = (status.height, status.width), f"the masks of {status.image_id}"
    if table["image_id"].unique().to_pylist() != [status.image_id] * (len(table) > 0):
        raise DamagedFile(file, f"there are rows of other images among {where}")
    if table["mask_id"].to_pylist() != [*range(len(table))]:
        raise DamagedFile(file, f"{where} are not numbered from 0 to {len(table) - 1}")
    if any(tuple(s) != size for s in table["size"].to_pylist()):
        raise DamagedFile(file, f"the size of {where} is not the image's {size[0]} x {size[1]}")
    for i, counts in enumerate(table["counts"].to_pylist()):
        if problem := rle.find_problem(counts, size):
            raise DamagedFile(file, f"mask {i} of {status.image_id}: {problem}")
    masks = table_to_masks(table, size)
    wrong = {
        "area": masks.area != rle.area(masks.counts, size),
        "bbox": (masks.xyxy != rle.to_xyxy(masks.counts, size)).any(axis=1),
    }
    for name, rows in wrong.items():
        if rows.any():
            i = int(rows.argmax())
            raise DamagedFile(
                file, f"{name} of mask {i} of {status.image_id} does not match its counts"
            )
    return masks


def check_features(store: LabelStore, file: str, rows: int | None) -> None:
    """Check the features of a shard.

    Args:
        store: the store.
        file: the feature array.
        rows: number of masks in the shard; None: unknown.

    Raises:
        DamagedFile: the array is damaged, or not float16 (N, C) with one row per mask.
    """
    array = read_array(store, file)
    if array.dtype != np.float16 or array.ndim != 2:
        raise DamagedFile(file, f"{array.dtype} {array.shape}, expected float16 (N, C)")
    if rows is not None and len(array) != rows:
        raise DamagedFile(file, f"{len(array)} rows, but the shard has {rows} masks")


def check_labels(
    store: LabelStore, file: str, masks: dict[str, Masks]
) -> dict[str, Int[np.ndarray, " N"]]:
    """Return the classes of the masks of a shard by image, after checking the table.

    Args:
        store: the store.
        file: the label table.
        masks: masks of the shard by image.

    Raises:
        DamagedFile: the table is damaged.
    """
    rows = read_table(store, file, LABELS, "assign").to_pylist()
    expected = [(image_id, i) for image_id, m in masks.items() for i in range(len(m))]
    if [(row["image_id"], row["mask_id"]) for row in rows] != expected:
        raise DamagedFile(file, f"its {len(rows)} rows do not match the shard's masks")
    ids = np.array([row["category_id"] for row in rows], np.int32)
    k = store.info.num_classes
    if ids.size and not -1 <= ids.min() <= ids.max() < k:
        raise DamagedFile(file, f"classes from {ids.min()} to {ids.max()}, expected -1 to {k - 1}")
    ends = np.cumsum([len(m) for m in masks.values()], dtype=int)
    return dict(zip(masks, np.split(ids, ends), strict=False))  # the last piece is empty


def check_maps(
    store: LabelStore,
    shard: int,
    masks: dict[str, Masks],
    ids: dict[str, Int[np.ndarray, " N"]],
    paint: Paint,
    damaged: Collection[str],
) -> Iterator[Fault]:
    """Yield a fault for each index map of a shard that differs from its painted masks.

    Args:
        store: the store.
        shard: number of the shard.
        masks: masks of the shard by image.
        ids: classes of the masks by image.
        paint: function that drew the index maps.
        damaged: files known to be damaged; they are not opened.
    """
    statuses = {status.image_id: status for status in store.shard(shard).images()}
    for record in store.plan[shard]:
        file = index_map_path(record)
        if record.image_id not in masks or file in damaged:
            continue
        image_masks = masks[record.image_id]
        if not (store.root / file).exists():
            yield Fault(file, "missing")
            continue
        try:
            with Image.open(store.root / file, formats=("PNG",)) as image:
                height, width = image.height, image.width
                pixels = np.asarray(image) if (height, width) == image_masks.size else None
        except Exception as error:  # decoders may raise any exception on damaged files
            yield Fault(file, f"cannot be read: {_reason(error)}")
            continue
        if pixels is None:
            yield Fault(file, f"{height} x {width} px, the image has {image_masks.size}")
            continue
        painted = paint(image_masks, ids[record.image_id], store.info.ignore_index)
        valid = statuses[record.image_id].read_valid()
        if not np.array_equal(pixels, ignore_nodata(painted, valid, store.info.ignore_index)):
            yield Fault(file, "differs from its masks, painted with their classes")


def check_objects(store: LabelStore, shard: int, rows: int) -> Iterator[Fault]:
    """Yield the faults of objects/ in a shard.

    Args:
        store: a store of windows.
        shard: number of the shard.
        rows: number of masks in the shard.
    """
    name = f"objects/{shard:05d}.parquet"
    try:
        table = read_table(store, name, OBJECTS, "masks")
        if len(table) == rows:
            shared = ObjectPieces.from_table(table).shared
            check_features(store, f"objects/{shard:05d}.npy", int(shared.sum()))
        else:
            yield Fault(name, f"{len(table)} rows, but the shard has {rows} masks")
    except DamagedFile as error:
        yield error.fault


def check_raster_maps(store: LabelStore, paint: Paint, damaged: Collection[str]) -> Iterator[Fault]:
    """Yield a fault for each index map of a raster that differs from its painted masks.

    Args:
        store: a store of windows.
        paint: function that drew the index maps.
        damaged: files known to be damaged; no map is checked if tables are among them.
    """
    if any(name.startswith(TABLES) for name in damaged) or store.missing("assign"):
        return
    painter = RasterPainter(store, paint)
    for raster in painter.rasters:
        if raster.file in damaged or not (store.root / raster.file).exists():
            continue
        top = 0
        for labels in painter.strips(raster):
            strip = Tile(0, top, raster.grid.size[1], top + len(labels))
            try:
                pixels = read_index_map(store.root / raster.file, strip)
            except ImageError as error:
                yield Fault(raster.file, f"cannot be read: {_reason(error)}")
                break
            if not np.array_equal(pixels, labels):
                yield Fault(raster.file, "differs from its masks, painted with their classes")
                break
            top = strip.y1


def check_clusters(store: LabelStore) -> Iterator[Fault]:
    """Yield the faults of clusters/: arrays that cannot be read or have contradictory shapes."""
    try:
        arrays = {
            path.stem: read_array(store, f"clusters/{path.name}")
            for path in sorted((store.root / "clusters").glob("*.npy"))
        }
        if "centroids" not in arrays:
            return  # not fitted yet
        clusters = Clusters(**arrays)
        k = len(clusters.centroids)
        for name in ("counts", "category_id", "radius"):
            if (rows := getattr(clusters, name)) is not None and rows.shape != (k,):
                raise DamagedFile(f"clusters/{name}.npy", f"shape {rows.shape}, expected ({k},)")
        if clusters.category_id is None and k != store.info.num_classes:
            raise DamagedFile("clusters/centroids.npy", f"{k} of {store.info.num_classes} clusters")
    except DamagedFile as error:
        yield error.fault
    except TypeError as error:  # an unknown or a missing file
        yield Fault("clusters/centroids.npy", str(error).replace("Clusters.__init__() ", ""))


def check_categories(store: LabelStore, categories: list[Category]) -> Iterator[Fault]:
    """Yield a fault if categories.json exists and does not contain these classes."""
    if not (path := store.root / "categories.json").exists():
        return
    expected = json.dumps([asdict(category) for category in categories], indent=1)
    if path.read_bytes() != expected.encode():
        yield Fault("categories.json", "its classes are not those of this recipe")


def read_table(store: LabelStore, file: str, schema: pa.Schema, stage: Stage) -> pa.Table:
    """Return a table after checking it.

    Args:
        store: the store.
        file: the table, relative to the store.
        schema: the columns it may have.
        stage: the stage that wrote it.

    Raises:
        DamagedFile: the table is truncated, has unexpected columns, or its fingerprint differs from
            that in store.json.
    """
    if not (store.root / file).exists():
        raise DamagedFile(file, "missing")
    try:
        table = pq.read_table(store.root / file)
        table.validate(full=True)
    except Exception as error:  # decoders may raise any exception on damaged files
        raise DamagedFile(file, f"cannot be read: {_reason(error)}") from error
    for field in table.schema:
        if field.name not in schema.names or field.type != schema.field(field.name).type:
            raise DamagedFile(file, f"unknown column {field.name} ({field.type})")
    for name in schema.names:
        if name in REQUIRED and (name not in table.column_names or table[name].null_count):
            raise DamagedFile(file, f"column {name} is missing or contains nulls")
    fingerprint = (
        (table.schema.metadata or {}).get(b"alps.fingerprint", b"").decode(errors="replace")
    )
    if fingerprint != store.info.stages[stage]["fingerprint"]:
        raise DamagedFile(file, f"made with other settings (fingerprint {fingerprint or 'absent'})")
    return table


def read_array(store: LabelStore, file: str) -> np.ndarray:
    """Read an array, memory-mapped unless it is empty; raise `DamagedFile` if it is damaged."""
    path = store.root / file
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)
    except Exception as error:  # numpy parses a damaged header as Python literals
        raise DamagedFile(file, f"cannot be read: {_reason(error)}") from error
    if path.stat().st_size != getattr(array, "offset", 128) + array.nbytes:
        raise DamagedFile(file, f"{path.stat().st_size} bytes, which does not match its header")
    return np.asarray(array)


def _reason(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())
