"""The label store: masks, features and labels of an image set on disk, in standard formats only.

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
    ann/<split>/<id>.png  index maps; ignore_index in unlabelled and no-data pixels
    statistics/           tables and figures about the contents
    evaluation.json       scores of the labels, if they were compared with ground truth
    categories.json, report.html, manifest.json

A stage's fingerprint is the hash of the settings that change its output and of its parent's
fingerprint. All files of a stage always belong to the fingerprint in store.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float16, Float32, Int, Int64

from alps.errors import StoreError
from alps.store.atomic import UNFINISHED, atomic, discard_unfinished
from alps.store.shards import Opened, Plan, read_array, read_table
from alps.store.tables import IMAGES, LABELS, MASKS, masks_to_table, table_to_masks
from alps.structures import rle
from alps.structures.findings import Finding, findings_to_json, json_to_findings
from alps.structures.masks import Masks
from alps.structures.records import Category, Clusters, ImageRecord

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
    "features": ("features",),
    "assign": (
        *(PARTS, "clusters", "labels", "ann", "categories.json", "report.html", "statistics"),
        *("choose_k.html", "evaluation.json", "evaluation.html"),
        "manifest.json",
    ),
}
#: The folder whose file for a shard marks that shard as done.
COMMITS: Mapping[Stage, str] = {"masks": "masks", "features": "features", "assign": "labels"}
#: Maximum number of shards whose features are open at the same time.
OPEN = 256


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """The outcome of one image: a row of images/."""

    image_id: str
    status: Literal["ok", "empty", "failed"]  # empty: no masks, or no valid pixels
    error: str | None
    height: int
    width: int
    n_masks: int
    covered: int  # pixels inside at least one mask
    dropped: int = 0  # annotations that could not be used
    valid: bytes | None = None  # valid pixels as compressed COCO RLE; None: all
    sha256: str | None = None  # of the file when it was read; None: unknown

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
        """Share of the valid pixels that lie inside at least one mask."""
        return self.covered / max(self.pixels, 1)

    def read_valid(self) -> Bool[np.ndarray, "H W"] | None:
        """Decode the valid mask; None: all pixels are valid."""
        return None if self.valid is None else rle.decode(self.valid, (self.height, self.width))


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


class LabelStore:
    """Read and write one store; the docstring of the module describes the layout.

    Args:
        root: folder of the store.

    Raises:
        StoreError: there is no store at ``root``, it is damaged, or a newer ALPS wrote it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        try:
            raw = json.loads((self.root / "store.json").read_text())
        except FileNotFoundError:
            raise StoreError(
                f"no label store at {self.root} (store.json is missing); make one with label.py"
            ) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {self.root / 'store.json'}: {error}") from error
        try:
            if raw["schema_version"] != SCHEMA_VERSION:
                raise StoreError(
                    f"{self.root} has schema version {raw['schema_version']}, this ALPS reads "
                    f"{SCHEMA_VERSION}; use the ALPS that wrote it ({raw['versions'].get('alps')})"
                )
            self.info = StoreInfo(**raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{self.root / 'store.json'} is damaged ({type(error).__name__}: {error}); the "
                "label.py command that made the store mends it with verify=true"
            ) from error

    def __reduce__(self) -> tuple[type[LabelStore], tuple[Path]]:
        return LabelStore, (self.root,)  # another process reads the plan itself, as it may be long

    # --- the plan -------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """Images of every shard."""
        return Plan(self.root / "plan.parquet")

    def missing(self, stage: Stage) -> list[int]:
        """Return the numbers of the shards that ``stage`` has not done yet."""
        done = {p.stem for p in (self.root / COMMITS[stage]).glob("*.*")}
        return [i for i in range(len(self.plan)) if f"{i:05d}" not in done]

    def has(self, stage: Stage, shard: int) -> bool:
        """Return whether ``stage`` has done a shard."""
        folder = self.root / COMMITS[stage]  # not listed: it may hold a million files
        return any((folder / f"{shard:05d}{suffix}").exists() for suffix in (".parquet", ".npy"))

    def has_begun(self, stage: Stage) -> bool:
        """Return whether ``stage`` has done any shard."""
        return any((self.root / COMMITS[stage]).glob("*.*"))

    def require(self, stage: Stage) -> None:
        """Raise `StoreError` unless ``stage`` is finished."""
        if stage not in self.info.stages:
            raise StoreError(f"{self.root} has no {stage}: its recipe makes none")
        if missing := self.missing(stage):
            raise StoreError(
                f"{self.root}: {len(missing)} of {len(self.plan)} shards have no {stage} yet; run "
                "the label.py command that made it again, it goes on where it stopped"
            )

    @property
    def complete(self) -> bool:
        """Whether all stages are finished; the manifest is written last."""
        return (self.root / "manifest.json").exists()

    # --- writing --------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open ``name`` (relative to the store) for an atomic write."""
        with atomic(self.root, name) as file:
            yield file

    def discard_unfinished(self) -> None:
        """Remove the temporary files of dead processes."""
        discard_unfinished(self.root)
        if self.complete:  # else another run may be about to write into the folder
            with suppress(OSError):
                (self.root / UNFINISHED).rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Write a text file unless it has this text already."""
        path = self.root / name
        if not (path.exists() and path.read_bytes() == text.encode()):
            with self.writing(name) as file:
                file.write(text.encode())

    def write_masks(
        self,
        shard: int,
        statuses: Sequence[ImageStatus],
        masks: Mapping[str, Masks],
    ) -> None:
        """Write the image table of a shard, then its masks, which commits the shard.

        Args:
            shard: number of the shard.
            statuses: outcome of each image, in plan order.
            masks: masks by image, in plan order.
        """
        images = pa.Table.from_pylist([asdict(status) for status in statuses], IMAGES)
        if all(status.valid is None for status in statuses):
            images = images.drop(["valid"])
        self._write_table(f"images/{shard:05d}.parquet", images, "masks")
        parts = [masks_to_table(image_id, m) for image_id, m in masks.items() if len(m)]
        table = pa.concat_tables(parts) if parts else MASKS.empty_table()
        self._write_table(f"masks/{shard:05d}.parquet", table, "masks")

    def write_features(self, shard: int, features: Float[np.ndarray, "N C"]) -> None:
        """Write the features of a shard as float16, one row per mask in the order of its masks."""
        with self.writing(f"features/{shard:05d}.npy") as file:
            np.save(file, features.astype(np.float16), allow_pickle=False)

    def write_clusters(self, clusters: Clusters) -> None:
        """Write one file per array that is not None; the centroids come last as the commit."""
        for field in reversed(fields(Clusters)):
            array = getattr(clusters, field.name)
            if array is not None:
                with self.writing(f"clusters/{field.name}.npy") as file:
                    np.save(file, array, allow_pickle=False)

    def write_labels(
        self,
        shard: int,
        category_id: Int[np.ndarray, " N"],
        distance: Float[np.ndarray, " N"] | None,
    ) -> None:
        """Commit the labels of a shard, whose index maps must exist already.

        Args:
            shard: number of the shard.
            category_id: class of each mask, in the order of the shard's masks.
            distance: distance of each mask to its centroid; NaN is written as null.
        """
        masks = self._read_table(f"masks/{shard:05d}.parquet", ["image_id", "mask_id"])
        far = np.full(len(masks), np.nan) if distance is None else distance
        distances = pa.array(far, pa.float32(), from_pandas=True)
        columns = [*masks.columns, pa.array(category_id, pa.int32()), distances]
        self._write_table(f"labels/{shard:05d}.parquet", pa.table(columns, schema=LABELS), "assign")

    def write_annotation(self, record: ImageRecord, png: bytes) -> None:
        """Write the index map of one image."""
        with self.writing(f"ann/{record.split}/{record.image_id}.png") as file:
            file.write(png)

    def write_findings(self, findings: Sequence[Finding]) -> None:
        """Write the inconsistencies of the dataset, which are part of no fingerprint."""
        self.write_text(FINDINGS, findings_to_json(findings))

    def write_categories(self, categories: Sequence[Category]) -> None:
        """Write the classes as COCO "categories"; ``id`` is the pixel value."""
        self.write_text("categories.json", json.dumps([asdict(c) for c in categories], indent=1))

    # --- reading --------------------------------------------------------------------------------

    def images(self, shard: int) -> list[ImageStatus]:
        """Read the outcome of each image of a shard."""
        return [
            ImageStatus(**row)
            for row in self._read_table(f"images/{shard:05d}.parquet").to_pylist()
        ]

    def masks(self, shard: int) -> dict[str, Masks]:
        """Read the masks of a shard by image, in plan order, without failed images."""
        table = self._read_table(f"masks/{shard:05d}.parquet")
        bounds = np.cumsum([0, *(status.n_masks for status in self.images(shard))])
        return {
            status.image_id: table_to_masks(
                table.slice(start, stop - start), (status.height, status.width)
            )
            for status, start, stop in zip(self.images(shard), bounds[:-1], bounds[1:], strict=True)
            if status.status != "failed"
        }

    def areas(self, shard: int) -> Int64[np.ndarray, " N"]:
        """Read the area of each mask of a shard, in pixels."""
        area: np.ndarray = self._read_table(f"masks/{shard:05d}.parquet", ["area"])[0].to_numpy()
        return area.astype(np.int64)

    def features(self, shard: int) -> Float16[np.ndarray, "N C"]:
        """Map the features of a shard, one row per mask; C is 0 if the recipe has no features."""
        if "features" not in self.info.stages:
            return np.zeros((len(self.areas(shard)), 0), np.float16)
        path = self.root / f"features/{shard:05d}.npy"
        # An empty array cannot be memory-mapped.
        array = read_array(path, mapped=path.exists() and path.stat().st_size > 128)
        return array if len(array) else np.zeros(array.shape, np.float16)

    def all_features(self) -> Sequence[Float16[np.ndarray, "_ C"]]:
        """Return the features of all shards as a lazy sequence.

        A memory map keeps a file open and a process may open 1024 files, so at most `OPEN` are
        kept.
        """
        return Opened(self.features, len(self.plan), OPEN)

    def all_areas(self) -> Sequence[Int64[np.ndarray, " _"]]:
        """Return the areas of the masks of all shards, in pixels, as a lazy sequence."""
        return Opened(self.areas, len(self.plan), 1)

    def labels(self, shard: int) -> tuple[Int[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Read the labels of a shard.

        Returns:
            ``category_id`` and ``distance`` (NaN: none), in the order of the shard's masks.
        """
        table = self._read_table(f"labels/{shard:05d}.parquet")
        return (
            table["category_id"].to_numpy(),
            table["distance"].to_numpy(zero_copy_only=False).astype(np.float32),
        )

    def clusters(self) -> Clusters | None:
        """Read the clusters; None if they are not fitted yet."""
        files = {path.stem: path for path in (self.root / "clusters").glob("*.npy")}
        if "centroids" not in files:
            return None
        return Clusters(**{name: read_array(path) for name, path in files.items()})

    def categories(self) -> list[Category]:
        """Read the classes; ``id`` is the pixel value."""
        raw = json.loads((self.root / "categories.json").read_text())
        return [Category(id=c["id"], name=c["name"], color=tuple(c["color"])) for c in raw]

    def findings(self) -> list[Finding] | None:
        """Read the inconsistencies of the dataset; None if it has not been checked."""
        try:
            return json_to_findings((self.root / FINDINGS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"cannot read {self.root / FINDINGS}: {error}; the label.py command that made the "
                "store mends it with verify=true"
            ) from error

    # --- inside ---------------------------------------------------------------------------------

    def _write_table(self, name: str, table: pa.Table, stage: Stage) -> None:
        fingerprint = self.info.stages[stage]["fingerprint"]
        table = table.replace_schema_metadata({"alps.fingerprint": fingerprint})
        with self.writing(name) as file:
            pq.write_table(table, file, compression="zstd")

    def _read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return read_table(self.root / name, columns)


def open_store(root: str | Path) -> LabelStore:
    """Open a label store.

    Args:
        root: its folder.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    return LabelStore(root)
