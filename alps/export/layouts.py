"""Export a finished store to a new folder, completely or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from alps.errors import ConfigError, StoreError
from alps.export.coco import write_coco
from alps.export.cog import write_cogs
from alps.export.instances import Tally
from alps.export.overlay import write_overlay
from alps.export.polygons import write_polygons
from alps.export.sa1b import write_sa1b
from alps.export.samrs import write_samrs
from alps.export.youtube_vis import write_youtube_vis
from alps.rasters.formats import VECTORS
from alps.store.label_store import LabelStore

#: The function that writes a store into an empty folder, by the name of the layout. It takes both,
#: and for vector layouts also ``per`` and ``simplify``.
LAYOUTS: Mapping[str, Callable[..., Tally]] = {
    "coco": write_coco,
    "sa1b": write_sa1b,
    "samrs": write_samrs,
    "youtube_vis": write_youtube_vis,
    "overlay": write_overlay,
    "cog": write_cogs,
    **{name: partial(write_polygons, suffix=suffix) for name, suffix in VECTORS.items()},
}


def export_store(
    store: LabelStore | str | Path,
    layout: str,
    out: str | Path,
    *,
    images: str | None = None,
    per: str = "region",
    simplify: float | int = 0,
) -> Tally:
    """Export a store to a layout that other tools read.

    Masks are read shard by shard (youtube_vis: video by video). Besides them, memory holds only the
    list of images.

    Args:
        store: a finished label store, or its folder.
        layout: a key of `LAYOUTS`.
        out: the folder to create; if it exists, it must be empty.
        images: the folder of the images, if they have moved; only the layout overlay reads them.
        per: "region" or "mask": what becomes a polygon in a vector layout.
        simplify: tolerance of the outlines of regions in metres, in a vector layout.

    Returns:
        The numbers of exported and skipped images and masks.

    Raises:
        ConfigError: the layout does not exist, or does not support the classes or images of the
            store.
        DatasetNotFound: the layout needs the images and they are missing.
        MissingPackage: the layout needs PyAV (videos) or geopandas (polygons), which is not
            installed.
        StoreError: the store is not finished, or the folder cannot be written or is not empty.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if isinstance(store, str | Path):
        store = LabelStore(store)
    if not store.complete:
        raise StoreError(
            f"the label store {store.root} is not finished (manifest.json is missing); run the "
            "same label.py command again to resume it"
        )
    if images is not None:
        store = LabelStore(store.root)
        store.info = replace(store.info, images={**store.info.images, "root": images})
    write = LAYOUTS[layout]
    if layout in VECTORS:
        write = partial(write, per=per, simplify=simplify)
    elif per != "region" or simplify:
        raise ConfigError(
            f"--per and --simplify are options of {', '.join(VECTORS)}; --to {layout} writes no "
            "polygons"
        )
    with _new_folder(Path(out).resolve()) as folder:
        return write(store, folder)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, and rename it to ``out`` once it is complete."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out} is not empty; export into a new folder, or delete this one")
        shutil.rmtree(unfinished, ignore_errors=True)  # from an export that was killed
        unfinished.mkdir(parents=True)
        yield unfinished
        # Without fsync: an export damaged by a power failure can be repeated.
        unfinished.replace(out)
    except OSError as error:
        raise StoreError(
            f"cannot write {out}: {error.strerror or error}; free disk space or fix the "
            "permissions, or export into another folder"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
