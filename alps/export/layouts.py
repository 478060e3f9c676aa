"""Write a finished store into a new folder, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from alps.errors import ConfigError, StoreError
from alps.export.coco import write_coco
from alps.export.instances import Tally
from alps.export.sa1b import write_sa1b
from alps.export.samrs import write_samrs
from alps.store import LabelStore

#: What fills an empty folder with a store, by the name of the layout.
LAYOUTS: Mapping[str, Callable[[LabelStore, Path], Tally]] = {
    "coco": write_coco,
    "sa1b": write_sa1b,
    "samrs": write_samrs,
}


def export_store(store: LabelStore, layout: str, out: str | Path) -> Tally:
    """Write a store in another layout; it is read shard by shard, so memory does not grow.

    Args:
        store: a finished one.
        layout: one of `LAYOUTS`.
        out: folder to make; it may be there, but empty.

    Returns:
        What was written, and what was left out.

    Raises:
        ConfigError: there is no such layout, or it has no place for this store's classes.
        StoreError: the store is not finished, or the folder cannot be written or is not empty.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if not store.complete:
        raise StoreError(
            f"the label store {store.root} is not finished (manifest.json is missing); run the "
            "label.py command that made it again, it goes on where it stopped"
        )
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
