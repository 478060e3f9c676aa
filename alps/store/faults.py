"""Find damaged files of a label store without changing any."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, Integer
from PIL import Image

from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus, Stage
from alps.store.tables import IMAGES, LABELS, MASKS, table_to_masks
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import covered, ignore_nodata
from alps.structures.records import Category, Clusters

#: Draws the index map of an image from its masks, their classes and the ignore index.
Paint = Callable[[Masks, Int[np.ndarray, " N"], int], Integer[np.ndarray, "H W"]]
#: Columns that every version writes and that are never null.
WRITTEN = (*MASKS.names[:6], "status", "height", "width", "n_masks", "covered", "category_id")


@dataclass(frozen=True, slots=True)
class Fault:
    """A damaged or missing file."""

    file: str  # relative to the store
    problem: str


class Broken(Exception):
    """Raised for a damaged file; holds its `Fault`."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(file, problem)
        self.fault = Fault(file, problem)


def find_faults(
    store: LabelStore, shard: int, paint: Paint, known: Collection[str]
) -> Iterator[Fault]:
    """Check all existing files of a shard and yield at most one fault per file.

    Args:
        store: the store; it may be unfinished, as files that do not exist yet are no faults.
        shard: number of the shard.
        paint: function that drew the index maps.
        known: files known to be damaged; they are not opened.
    """
    images, masks, features, labels = (
        f"{folder}/{shard:05d}.{suffix}"
        for folder, suffix in (
            *(("images", "parquet"), ("masks", "parquet"), ("features", "npy")),
            ("labels", "parquet"),
        )
    )
    if not (store.root / masks).exists():
        return  # all other files of the shard depend on it and will be made anew
    found: dict[str, Masks] | None = None
    if not {images, masks} & {*known}:
        try:
            found = check_masks(store, images, masks, shard)
        except Broken as broken:
            yield broken.fault
    n = None if found is None else sum(map(len, found.values()))
    if "features" in store.info.stages and (store.root / features).exists():
        try:
            if features not in known:
                check_features(store, features, n)
        except Broken as broken:
            yield broken.fault
    if found is not None and labels not in known and (store.root / labels).exists():
        try:
            ids = check_labels(store, labels, found)
        except Broken as broken:
            yield broken.fault
            return
        yield from check_maps(store, shard, found, ids, paint, known)


def check_masks(store: LabelStore, images: str, masks: str, shard: int) -> dict[str, Masks]:
    """Check and return the masks of a shard by image, like `LabelStore.masks`.

    Args:
        store: the store.
        images: file of the image table.
        masks: file of the mask table.
        shard: number of the shard.

    Raises:
        Broken: one of the tables is damaged.
    """
    statuses = [
        ImageStatus(**row) for row in read_table(store, images, IMAGES, "masks").to_pylist()
    ]
    planned = [record.image_id for record in store.plan[shard]]
    if [status.image_id for status in statuses] != planned:
        raise Broken(images, f"its images are not the {len(planned)} that plan.parquet says")
    for s in statuses:
        if s.valid is not None and (problem := rle.find_problem(s.valid, (s.height, s.width))):
            raise Broken(images, f"valid pixels of {s.image_id}: {problem}")
        whole = s.height > 0 and s.width > 0 and s.error is None
        expected = "failed" if not whole else "ok" if s.n_masks > 0 else "empty"
        if s.status != expected or min(s.height, s.width, s.n_masks) < 0:
            raise Broken(
                images,
                f"{s.image_id} is {s.status!r} with {s.n_masks} masks, {s.height} x {s.width} px",
            )
    table = read_table(store, masks, MASKS, "masks")
    rows = sum(status.n_masks for status in statuses)
    if len(table) != rows:
        raise Broken(masks, f"{len(table)} rows, and {images} counts {rows} masks")
    found: dict[str, Masks] = {}
    start = 0
    for status in statuses:
        part = table.slice(start, status.n_masks)
        start += status.n_masks
        if status.status != "failed":
            found[status.image_id] = _check_rows(part, status, masks)
            if (pixels := covered(found[status.image_id])) != status.covered:
                raise Broken(
                    images,
                    f"{status.image_id}: {status.covered} pixels covered, its masks cover {pixels}",
                )
    return found


def _check_rows(table: pa.Table, status: ImageStatus, file: str) -> Masks:
    """Check and return the masks of one image."""
    size, where = (status.height, status.width), f"the masks of {status.image_id}"
    if table["image_id"].unique().to_pylist() != [status.image_id] * (len(table) > 0):
        raise Broken(file, f"rows of other images among {where}")
    if table["mask_id"].to_pylist() != [*range(len(table))]:
        raise Broken(file, f"{where} are not counted from 0 to {len(table) - 1}")
    if any(tuple(s) != size for s in table["size"].to_pylist()):
        raise Broken(file, f"the size of {where} is not the image's {size[0]} x {size[1]}")
    for i, counts in enumerate(table["counts"].to_pylist()):
        if problem := rle.find_problem(counts, size):
            raise Broken(file, f"mask {i} of {status.image_id}: {problem}")
    masks = table_to_masks(table, size)
    wrong = {
        "area": masks.area != rle.area(masks.counts, size),
        "bbox": (masks.xyxy != rle.to_xyxy(masks.counts, size)).any(axis=1),
    }
    for name, rows in wrong.items():
        if rows.any():
            i = int(rows.argmax())
            raise Broken(file, f"{name} of mask {i} of {status.image_id} is not that of its counts")
    return masks


def check_features(store: LabelStore, file: str, rows: int | None) -> None:
    """Check the features of a shard.

    Args:
        store: the store.
        file: the feature array.
        rows: number of masks in the shard; None: unknown.

    Raises:
        Broken: the array is damaged, or not float16 (N, C) with one row per mask.
    """
    array = read_array(store, file)
    if array.dtype != np.float16 or array.ndim != 2:
        raise Broken(file, f"{array.dtype} {array.shape}, expected float16 (N, C)")
    if rows is not None and len(array) != rows:
        raise Broken(file, f"{len(array)} rows, and the shard has {rows} masks")


def check_labels(
    store: LabelStore, file: str, masks: dict[str, Masks]
) -> dict[str, Int[np.ndarray, " N"]]:
    """Check and return the classes of the masks of a shard by image.

    Args:
        store: the store.
        file: the label table.
        masks: masks of the shard by image.

    Raises:
        Broken: the table is damaged.
    """
    rows = read_table(store, file, LABELS, "assign").to_pylist()
    expected = [(image_id, i) for image_id, found in masks.items() for i in range(len(found))]
    if [(row["image_id"], row["mask_id"]) for row in rows] != expected:
        raise Broken(file, f"its {len(rows)} rows are not those of the shard's masks")
    ids = np.array([row["category_id"] for row in rows], np.int32)
    k = store.info.num_classes
    if ids.size and not -1 <= ids.min() <= ids.max() < k:
        raise Broken(file, f"classes from {ids.min()} to {ids.max()}, expected -1 to {k - 1}")
    ends = np.cumsum([len(found) for found in masks.values()], dtype=int)
    return dict(zip(masks, np.split(ids, ends), strict=False))  # the last piece is empty


def check_maps(
    store: LabelStore,
    shard: int,
    masks: dict[str, Masks],
    ids: dict[str, Int[np.ndarray, " N"]],
    paint: Paint,
    known: Collection[str],
) -> Iterator[Fault]:
    """Yield a fault for each index map of a shard that differs from its painted masks.

    Args:
        store: the store.
        shard: number of the shard.
        masks: masks of the shard by image.
        ids: classes of the masks by image.
        paint: function that drew the index maps.
        known: files known to be damaged; they are not opened.
    """
    statuses = {status.image_id: status for status in store.shard(shard).images()}
    for record in store.plan[shard]:
        file = f"ann/{record.split}/{record.image_id}.png"
        if record.image_id not in masks or file in known:
            continue
        found = masks[record.image_id]
        if not (store.root / file).exists():
            yield Fault(file, "missing")
            continue
        try:
            with Image.open(store.root / file, formats=("PNG",)) as image:
                height, width = image.height, image.width
                pixels = np.asarray(image) if (height, width) == found.size else None
        except Exception as error:  # decoders may raise any exception on damaged files
            yield Fault(file, f"cannot be read: {_reason(error)}")
            continue
        if pixels is None:
            yield Fault(file, f"{height} x {width} px, the image has {found.size}")
            continue
        painted = paint(found, ids[record.image_id], store.info.ignore_index)
        valid = statuses[record.image_id].read_valid()
        if not np.array_equal(pixels, ignore_nodata(painted, valid, store.info.ignore_index)):
            yield Fault(file, "not what the masks and their classes paint")


def check_clusters(store: LabelStore) -> Iterator[Fault]:
    """Yield the faults of clusters/: arrays that cannot be read or have contradictory shapes."""
    try:
        known = {
            path.stem: read_array(store, f"clusters/{path.name}")
            for path in sorted((store.root / "clusters").glob("*.npy"))
        }
        if "centroids" not in known:
            return  # not fitted yet
        clusters = Clusters(**known)
        k = len(clusters.centroids)
        for name in ("counts", "category_id", "radius"):
            if (rows := getattr(clusters, name)) is not None and rows.shape != (k,):
                raise Broken(f"clusters/{name}.npy", f"shape {rows.shape}, expected ({k},)")
        if clusters.category_id is None and k != store.info.num_classes:
            raise Broken("clusters/centroids.npy", f"{k} of {store.info.num_classes} clusters")
    except Broken as broken:
        yield broken.fault
    except TypeError as error:  # a file with an unknown name, or a missing one
        yield Fault("clusters/centroids.npy", str(error).replace("Clusters.__init__() ", ""))


def check_categories(store: LabelStore, categories: list[Category]) -> Iterator[Fault]:
    """Yield a fault if categories.json exists and does not hold these classes."""
    if not (path := store.root / "categories.json").exists():
        return
    expected = json.dumps([asdict(category) for category in categories], indent=1)
    if path.read_bytes() != expected.encode():
        yield Fault("categories.json", "not the classes of this recipe")


def read_table(store: LabelStore, file: str, schema: pa.Schema, stage: Stage) -> pa.Table:
    """Read and check a table.

    Args:
        store: the store.
        file: the table, relative to the store.
        schema: the columns it may have.
        stage: the stage that wrote it.

    Raises:
        Broken: the table is cut short, has other columns or was made by another run.
    """
    if not (store.root / file).exists():
        raise Broken(file, "missing")
    try:
        table = pq.read_table(store.root / file)
        table.validate(full=True)
    except Exception as error:  # decoders may raise any exception on damaged files
        raise Broken(file, f"cannot be read: {_reason(error)}") from error
    for field in table.schema:
        if field.name not in schema.names or field.type != schema.field(field.name).type:
            raise Broken(file, f"a column {field.name} ({field.type}) that no such table has")
    for name in schema.names:
        if name in WRITTEN and (name not in table.column_names or table[name].null_count):
            raise Broken(file, f"no column {name}, or one with gaps")
    written = (table.schema.metadata or {}).get(b"alps.fingerprint", b"").decode(errors="replace")
    if written != store.info.stages[stage]["fingerprint"]:
        raise Broken(file, f"made by another run (fingerprint {written or 'absent'})")
    return table


def read_array(store: LabelStore, file: str) -> np.ndarray:
    """Read an array, memory-mapped unless it is empty; raise `Broken` if it is damaged."""
    path = store.root / file
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)
    except Exception as error:  # numpy parses a damaged header as Python literals
        raise Broken(file, f"cannot be read: {_reason(error)}") from error
    if path.stat().st_size != getattr(array, "offset", 128) + array.nbytes:
        raise Broken(file, f"{path.stat().st_size} bytes, more than its header says")
    return np.asarray(array)


def _reason(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())
