"""Read the images of a label store, with its pseudo-labels as targets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from alps.errors import DatasetNotFound, LabelError, StoreError
from alps.images.files.frames import read_frame
from alps.images.files.labels import Labels, read_labels
from alps.images.files.listing import contents
from alps.images.files.read import to_sample
from alps.images.geo.rasters import read_window
from alps.rasters.pixels import Pixels
from alps.rasters.view import View
from alps.store.label_store import LabelStore
from alps.store.layout import index_map_path, read_info
from alps.structures.records import Category, ImageRecord, Sample

logger = logging.getLogger(__name__)


class StoredLabels:
    """A label store written by label.py, as a training set.

    Images are read from the folder that the store names. Images that could not be labelled, or that
    have no mask, are skipped.

    Args:
        root: folder of the store.
        images: folder of the images, if they have moved.
        made_by: command that creates this store, for the message if it is missing.
    """

    def __init__(self, *, root: str, images: str | None = None, made_by: str | None = None) -> None:
        self.root = root
        self.images = images
        self.made_by = made_by

    @property
    def name(self) -> str:
        """Name of the store."""
        return self._store.info.name

    @property
    def ignore_index(self) -> int:
        """Value of unlabelled pixels."""
        return self._store.info.ignore_index

    @property
    def protocol(self) -> str:
        """Evaluation protocol that scores are reported under."""
        return f"agreement with the {self._store.info.num_classes} pseudo-classes of {self.name}"

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the labels, which changes with settings, images and boxes."""
        return str(self._store.info.stages["assign"]["fingerprint"])

    @property
    def view(self) -> Mapping[str, Any] | None:
        """Settings of the `View` of rasters, as JSON values; None: the images are not rasters."""
        return self._store.info.images.get("view")

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of the bands that networks see; None: RGB."""
        names = (self.view or {}).get("names")
        return None if names is None else tuple(names)

    def records(self) -> list[ImageRecord]:
        """Return all images with labels, in the order of the store's plan.

        Raises:
            DatasetNotFound: there is no store, or its images are missing.
            StoreError: the store is not finished.
        """
        store = self._finished_store
        records = []
        for shard, plan in enumerate(store.plan):
            ok = {
                status.image_id for status in store.shard(shard).images() if status.status == "ok"
            }
            records += [record for record in plan if record.image_id in ok]
        n = sum(map(len, store.plan))
        if len(records) < n:
            logger.info("%s: %d of %d images have labels", self.name, len(records), n)
        if records:
            store.require_images(records[0], "set dataset.images to their folder")
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        return to_sample(record, self._store.read_pixels(record))

    def categories(self) -> list[Category]:
        """Return the pseudo-classes; the id is the pixel value.

        Raises:
            DatasetNotFound: there is no store.
            StoreError: the store is not finished, or is damaged.
        """
        try:
            categories = self._finished_store.categories()
        except (OSError, ValueError, KeyError, TypeError) as error:  # a damaged or missing file
            raise StoreError(self._describe_damage(str(error))) from error
        if not categories:
            raise StoreError(self._describe_damage("it lists no class"))
        return categories

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one image; raise `LabelError` if it cannot be read."""
        if record.window is None:
            return read_labels(Path(self.root, index_map_path(record)))
        try:
            return self._store.read_index_map(record)
        except StoreError as error:
            raise LabelError(str(error)) from error

    def _describe_damage(self, reason: str) -> str:
        return (
            f"cannot read {Path(self.root, 'categories.json')}: {reason}; repair the store with "
            "the same label.py command and verify=true"
        )

    @cached_property
    def _store(self) -> LabelStore:
        """The label store; raises `DatasetNotFound` if it is missing."""
        root = Path(self.root)
        if not (root / "store.json").is_file():
            remedy = f"make it with `{self.made_by}`" if self.made_by else "make one with label.py"
            raise DatasetNotFound(
                f"no label store at {root.absolute()} (store.json is missing; found "
                f"{contents(root)}); {remedy}, or set dataset.root to the folder of a store"
            )
        return open_store(root, images=self.images)

    @property
    def _finished_store(self) -> LabelStore:
        """The label store; raises `StoreError` if it is not finished."""
        store = self._store
        if not store.complete:
            has_plan = (store.root / "plan.parquet").is_file()
            shards = len(store.plan) if has_plan else 0
            done = shards - len(store.missing("assign")) if has_plan else 0
            raise StoreError(
                f"the label store {self.root} is not finished ({done} of {shards} shards have "
                "labels); run the same label.py command again to resume it"
            )
        return store


def open_store(root: str | Path, *, images: str | Path | None = None) -> LabelStore:
    """Open a label store together with its images.

    Args:
        root: folder of the store.
        images: folder of the images, if they have moved.

    Returns:
        The store; unlike ``LabelStore(root)``, it supports `LabelStore.image` and
        `LabelStore.as_dataset`.

    Raises:
        StoreError: there is no store at ``root``, or it cannot be read.
    """
    view = read_info(Path(root)).images.get("view")
    read = read_frame if view is None else partial(_read_window, view)
    return LabelStore(root, images=images, read_image=read)


def _read_window(view: Mapping[str, Any], root: str | Path, record: ImageRecord) -> Pixels:
    """Read a window with the settings with which it was labelled."""
    roots = view.get("vrt_roots", ())
    return read_window(str(root), record, View.from_json(view), vrt_roots=roots)
