"""Write a finished store into a new folder, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from alps.errors import ConfigError, StoreError
from alps.export.coco import write_coco
from alps.export.instances import Tally
from alps.export.overlay import write_overlay
from alps.export.sa1b import write_sa1b
from alps.export.samrs import write_samrs
from alps.export.youtube_vis import write_youtube_vis
from alps.store.label_store import LabelStore

#: What fills an empty folder with a store, by the name of the layout.
LAYOUTS: Mapping[str, Callable[[LabelStore, Path], Tally]] = {
    "coco": write_coco,
    "sa1b": write_sa1b,
    "samrs": write_samrs,
    "youtube_vis": write_youtube_vis,
    "overlay": write_overlay,
}


def export_store(
    store: LabelStore | str | Path, layout: str, out: str | Path, *, images: str | None = None
) -> Tally:
    """Write a store in another layout; it is read shard by shard, so memory does not grow.

    Args:
        store: a finished one, or its folder.
        layout: one of `LAYOUTS`.
        out: folder to make; it may be there, but empty.
        images: folder of the images, where they have moved since; only overlay reads them.

    Returns:
        What was written, and what was left out.

    Raises:
        ConfigError: there is no such layout, or it has no place for this store's classes or images.
        DatasetNotFound: the images are to be read and are not there.
        MissingPackage: a video is to be read or written and PyAV is not installed.
        StoreError: the store is not finished, or the folder cannot be written or is not empty.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if isinstance(store, str | Path):
        store = LabelStore(store)
    if not store.complete:
        raise StoreError(
            f"the label store {store.root} is not finished (manifest.json is missing); run the "
            "label.py command that made it again, it goes on where it stopped"
        )
    if images is not None:
        store = LabelStore(store.root)
        store.info = replace(store.info, images={**store.info.images, "root": images})
    with _new_folder(Path(out).resolve()) as folder:
        return LAYOUTS[layout](store, folder)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which is called ``out`` once it is full."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out} is not empty; export into a new folder, or delete this one")
        shutil.rmtree(unfinished, ignore_errors=True)  # of an export that was killed
        unfinished.mkdir(parents=True)
        yield unfinished
        # Without fsync, file by file: what a power cut spoils can be exported again.
        unfinished.replace(out)
    except OSError as error:
        raise StoreError(
            f"cannot write {out}: {error.strerror or error}; free or permit the place, or export "
            "into another folder"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
