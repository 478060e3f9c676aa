"""A label store: the masks, features and labels of an image set on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Int, Int64, UInt8, UInt16

from alps.errors import DatasetNotFound, ImageError, StoreError
from alps.rasters.index_map import read_index_map
from alps.rasters.pixels import Pixels
from alps.store.atomic import UNFINISHED, atomic, discard_unfinished
from alps.store.files import read_array, read_counts, read_index_png
from alps.store.image_index import ImageIndex, ImageRows
from alps.store.layout import (
    COMMITS,
    FINDINGS,
    ImageStatus,
    Stage,
    index_map_path,
    read_info,
)
from alps.store.shards import Plan, Shard, ShardSequence
from alps.structures.findings import Finding, findings_to_json, json_to_findings
from alps.structures.masks import Masks
from alps.structures.records import Category, Clusters, ImageRecord, Sample

if TYPE_CHECKING:
    import alps.store.dataset

#: Maximum number of shards whose features are open at the same time.
MAX_OPEN = 256
#: Reads the image of a record from the folder of the images.
ReadImage = Callable[[str | Path, ImageRecord], Pixels]


class LabelStore:
    """Read and write one store; `alps.store.layout` describes its files.

    By image: `images`, `masks`, `labels`, `index_map`, `image`, and `as_dataset` for PyTorch. By
    shard, the unit of work: `plan` and `shard`.

    >>> import alps
    >>> store = alps.open_store("data/town_pl")
    >>> store
    LabelStore('data/town_pl', images=4, splits=['train', 'val'], masks=36, classes=2)
    >>> [image.image_id for image in store.images("val")]
    ['val/0', 'val/1']
    >>> masks = store.masks("val/0")
    >>> masks
    Masks(n=9, size=(32, 48), area=1..2)
    >>> len(store.labels("val/0")) == len(masks)
    True
    >>> image, index_map = store.as_dataset("val")[0]
    >>> image.shape, index_map.shape
    (torch.Size([3, 32, 48]), torch.Size([32, 48]))

    Args:
        root: folder of the store.
        images: folder of the images, if they were moved.
        read_image: reader of images, for `image` and `as_dataset`. This package knows no image
            formats: `alps.open_store` supplies the reader of `alps.images`.

    Raises:
        StoreError: there is no store at ``root``, it is damaged, or a newer ALPS wrote it.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        images: str | Path | None = None,
        read_image: ReadImage | None = None,
    ) -> None:
        self.root = Path(root)
        self._moved, self._read_image = images, read_image
        self.info = read_info(self.root)

    def __reduce__(self) -> tuple[Callable[..., LabelStore], tuple[Path]]:
        # Without the plan, which may be large: the receiving process reads it from disk.
        return partial(LabelStore, images=self._moved, read_image=self._read_image), (self.root,)

    def __repr__(self) -> str:
        facts: dict[str, Any] = {}
        with suppress(StoreError):  # the plan is missing or damaged
            facts["images"] = int(self.plan.sizes.sum())
            facts["splits"] = [*self.plan.splits]
        if "masks" in (counts := read_counts(self.root / "manifest.json")):
            facts["masks"] = counts["masks"]
        facts["classes"] = self.info.num_classes
        if not self.complete:
            facts["complete"] = False
        described = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        return f"LabelStore({str(self.root)!r}, {described})"

    # --- by image -------------------------------------------------------------------------------

    def __contains__(self, image_id: object) -> bool:
        return image_id in self.plan.shard_of

    def images(self, split: str | None = None) -> list[ImageStatus]:
        """Return the status of each image, in the order of the plan.

        Images of shards that have no masks yet are not included.

        Args:
            split: name of a split; None: all.

        Raises:
            ConfigError: the store has no such split.
            StoreError: a table cannot be read.
        """
        return [status for status, _ in self._index.of_split(split)]

    def record(self, image_id: str) -> ImageRecord:
        """Return the file name, split and source of an image.

        Raises:
            StoreError: the store has no such image.
        """
        records: list[ImageRecord] = self.plan[self._index.shard_of(image_id)]
        return next(record for record in records if record.image_id == image_id)

    def masks(self, image_id: str) -> Masks:
        """Return the masks of an image.

        This is fast if images are requested in the order of the plan, because one shard is cached.

        Raises:
            ImageError: the image could not be read when it was labelled.
            StoreError: the store has no such image, or its masks are not computed yet.
        """
        return self._find(image_id, "masks").masks

    def features(self, image_id: str) -> Float16[np.ndarray, "N C"]:
        """Return the features of an image, one row per mask; C is 0 if the recipe has no features.

        Raises:
            ImageError: the image could not be read when it was labelled.
            StoreError: the store has no such image, or its features are not computed yet.
        """
        stage: Stage = "features" if "features" in self.info.stages else "masks"
        image = self._find(image_id, stage)
        return image.shard.features()[image.rows]

    def labels(self, image_id: str) -> Int[np.ndarray, " N"]:
        """Return the class of each mask of an image; -1: unlabelled.

        Raises:
            ImageError: the image could not be read when it was labelled.
            StoreError: the store has no such image, or its labels are not computed yet.
        """
        image = self._find(image_id, "assign")
        return image.shard.labels()[0][image.rows]

    def index_map(self, image_id: str) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Return the class of each pixel; ``info.ignore_index``: unlabelled or no data.

        Raises:
            ImageError: the image could not be read when it was labelled.
            StoreError: the store has no such image, or its index map is not drawn yet.
        """
        self._find(image_id, "assign")
        return self.read_index_map(self.record(image_id))

    def read_index_map(
        self, record: ImageRecord
    ) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Return the index map of a record of the plan; raise `StoreError` if it cannot be read."""
        path = self.root / index_map_path(record)
        if record.window is None:
            return read_index_png(path)
        try:
            return read_index_map(path, record.window)
        except ImageError as error:
            raise StoreError(
                f"{error}; delete the file and repeat the label.py command, which makes it again"
            ) from error

    def image(self, image_id: str) -> UInt8[np.ndarray, "H W 3"]:
        """Return the RGB image, read from the folder of the images; pixels without data are 0.

        Raises:
            ImageError: the image cannot be read, or its size differs from when it was labelled.
            StoreError: the store has no such image, or was opened without an image reader.
        """
        status, record = self._find(image_id, "masks").status, self.record(image_id)
        pixels = self.read_pixels(record)
        if pixels.size != (labelled := (status.height, status.width)):
            raise ImageError(
                f"{self.image_root}/{record.file_name} has (height, width) = {pixels.size}, but "
                f"had {labelled} when it was labelled; label it again"
            )
        return Sample(image_id, pixels.image, valid=pixels.valid).image

    def as_dataset(self, split: str | None = None) -> alps.store.dataset.StoreDataset:
        """Return the labelled images as a torch dataset of pairs (image, index map).

        The image is uint8 (3, H, W), RGB; the index map is int64 (H, W), with ``info.ignore_index``
        for pixels without a label. Images without a mask are skipped.

        Args:
            split: name of a split; None: all images.

        Raises:
            ConfigError: the store has no such split.
            DatasetNotFound: the images are not in their folder.
            StoreError: the store is not finished, or was opened without an image reader.
        """
        from alps.store.dataset import StoreDataset

        self.require("assign")
        records = [
            record for status, record in self._index.of_split(split) if status.status == "ok"
        ]
        _ = self._reader  # raises here rather than in a DataLoader worker
        if records:
            self.require_images(
                records[0], f"set their folder: alps.open_store({str(self.root)!r}, images=...)"
            )
        image_ids = [record.image_id for record in records]
        return StoreDataset(image_ids, self.image, self.index_map)

    @property
    def image_root(self) -> str | Path:
        """Folder of the images, or the URI of a remote one."""
        root = str(self._moved or self.info.images["root"])
        return root if "://" in root else Path(root)

    def read_pixels(self, record: ImageRecord) -> Pixels:
        """Read the image of a record of the plan, or its window of a raster.

        Returns:
            The image, valid mask, bands and georeference.

        Raises:
            ImageError: it cannot be read.
            StoreError: the store was opened without an image reader.
        """
        return self._reader(self.image_root, record)

    def require_images(self, record: ImageRecord, remedy: str) -> None:
        """Raise `DatasetNotFound` if the image of a record is not in the folder of the images.

        Args:
            record: an image.
            remedy: how to set another folder, for the message.

        Raises:
            DatasetNotFound: it is not there.
        """
        if record.window is not None:  # the raster may be a URI, or an item of a collection
            try:
                self.read_pixels(record)
            except ImageError as error:
                raise DatasetNotFound(
                    f"the rasters of the label store {self.root} cannot be read from "
                    f"{self.image_root}: {error}; {remedy}"
                ) from error
        elif not Path(self.image_root, record.file_name).exists():
            raise DatasetNotFound(
                f"the images of the label store {self.root} are not in "
                f"{Path(self.image_root).absolute()} (no {record.file_name}); {remedy}"
            )

    # --- by shard ---------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """Images of every shard."""
        return Plan(self.root / "plan.parquet")

    def shard(self, number: int) -> Shard:
        """Return a shard, whose files are read and written on request."""
        return Shard(self.root, self.info, number)

    def all_features(self) -> Sequence[Float16[np.ndarray, "_ C"]]:
        """Return the features of all shards as a lazy sequence.

        A memory map keeps a file open, and a process may open 1024 files, so at most `MAX_OPEN`
        arrays are cached.
        """
        return ShardSequence(self._features_of, len(self.plan), MAX_OPEN)

    def all_areas(self) -> Sequence[Int64[np.ndarray, " _"]]:
        """Return the areas of the masks of all shards, in pixels, as a lazy sequence."""
        return ShardSequence(self._areas_of, len(self.plan), 1)

    def missing(self, stage: Stage) -> list[int]:
        """Return the numbers of the shards that ``stage`` has not processed yet."""
        done = {p.stem for p in (self.root / COMMITS[stage]).glob("*.*")}
        return [i for i in range(len(self.plan)) if f"{i:05d}" not in done]

    def has(self, stage: Stage, shard: int) -> bool:
        """Return whether ``stage`` has processed a shard."""
        folder = self.root / COMMITS[stage]  # two paths are tested: listing a million files is slow
        return any((folder / f"{shard:05d}{suffix}").exists() for suffix in (".parquet", ".npy"))

    @cached_property
    def has_windows(self) -> bool:
        """Whether the images are windows of rasters."""
        return self.plan[0][0].window is not None

    def has_objects(self, shard: int) -> bool:
        """Return whether the objects of a shard of windows are known."""
        return (self.root / f"objects/{shard:05d}.parquet").exists()

    def has_begun(self, stage: Stage) -> bool:
        """Return whether ``stage`` has processed any shard."""
        return any((self.root / COMMITS[stage]).glob("*.*"))

    def require(self, stage: Stage) -> None:
        """Raise `StoreError` unless ``stage`` is finished."""
        if stage not in self.info.stages:
            raise StoreError(
                f"{self.root} has no {COMMITS[stage]}: its recipe does not include them"
            )
        if missing := self.missing(stage):
            raise StoreError(
                f"{self.root}: {len(missing)} of {len(self.plan)} shards have no {COMMITS[stage]} "
                "yet; repeat the label.py command, which resumes where it stopped"
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
        if self.complete:  # otherwise another run may be about to write into the folder
            with suppress(OSError):
                (self.root / UNFINISHED).rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Write a text file unless it has this text already."""
        path = self.root / name
        if not (path.exists() and path.read_bytes() == text.encode()):
            with self.writing(name) as file:
                file.write(text.encode())

    def write_clusters(self, clusters: Clusters) -> None:
        """Write one file per array that is not None.

        The centroids are written last, because their file marks the clusters as complete.
        """
        for field in reversed(fields(Clusters)):
            array = getattr(clusters, field.name)
            if array is not None:
                with self.writing(f"clusters/{field.name}.npy") as file:
                    np.save(file, array, allow_pickle=False)

    def write_annotation(self, record: ImageRecord, png: bytes) -> None:
        """Write the index map of one image."""
        with self.writing(index_map_path(record)) as file:
            file.write(png)

    def write_findings(self, findings: Sequence[Finding]) -> None:
        """Write the inconsistencies of the dataset, which do not affect any fingerprint."""
        self.write_text(FINDINGS, findings_to_json(findings))

    def write_categories(self, categories: Sequence[Category]) -> None:
        """Write the classes as COCO "categories"; ``id`` is the pixel value."""
        self.write_text("categories.json", json.dumps([asdict(c) for c in categories], indent=1))

    # --- whole store ----------------------------------------------------------------------------

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
                f"cannot read {self.root / FINDINGS}: {error}; to repair it, repeat the label.py "
                "command that made the store, with verify=true"
            ) from error

    # --- private --------------------------------------------------------------------------------

    @property
    def _reader(self) -> ReadImage:
        if self._read_image is None:
            raise StoreError(
                f"{self.root} was opened without an image reader; open it with "
                f"alps.open_store({str(self.root)!r})"
            )
        return self._read_image

    def _features_of(self, number: int) -> Float16[np.ndarray, "N C"]:
        return self.shard(number).features()

    def _areas_of(self, number: int) -> Int64[np.ndarray, " N"]:
        return self.shard(number).areas()

    @cached_property
    def _index(self) -> ImageIndex:
        return ImageIndex(self.root, self.plan, self.shard, partial(self.has, "masks"))

    def _find(self, image_id: str, stage: Stage) -> ImageRows:
        """Return the rows of an image in its shard, which ``stage`` must have processed."""
        if stage not in self.info.stages:
            raise StoreError(
                f"{self.root} has no {COMMITS[stage]}: its recipe does not include them"
            )
        if not self.has(stage, self._index.shard_of(image_id)):
            raise StoreError(
                f"{image_id} has no {COMMITS[stage]} in {self.root} yet; repeat the label.py "
                "command, which resumes where it stopped"
            )
        return self._index.find(image_id)
