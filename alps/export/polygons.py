"""Polygons for a GIS: a vector layer of regions or of masks."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int64
from tqdm import tqdm

from alps.errors import ConfigError
from alps.export.georeferenced import NO_PLACE, georeference_of, index_maps, require_georeference
from alps.export.instances import Tally
from alps.rasters.polygons import (
    Polygons,
    index_map_to_polygons,
    join_outlines,
    outline_masks,
    place_outlines,
)
from alps.rasters.qml import polygon_style
from alps.rasters.vectors import join_layers, write_layer
from alps.store.label_store import LabelStore
from alps.store.labelled import is_labelled, labelled_images
from alps.structures.georeference import Georeference
from alps.structures.windows import raster_id

logger = logging.getLogger(__name__)

#: What becomes a polygon.
PER = ("region", "mask")

#: The polygons of a raster with the attributes of each.
Part = tuple[Polygons, dict[str, Any]]


def write_polygons(
    store: LabelStore, folder: Path, *, suffix: str, per: str = "region", simplify: float | int = 0
) -> Tally:
    """Write regions.<suffix> or masks.<suffix>, and a QGIS style beside it.

    A region is a connected part of an index map with one class. Regions do not overlap; masks may.
    If the rasters have several CRSs, polygons are converted to the first one.

    Args:
        store: a finished label store.
        folder: the folder to write to.
        suffix: suffix of the file, which decides on its format.
        per: one of `PER`.
        simplify: tolerance of the outlines of regions in metres; 0: the outlines of pixels.

    Returns:
        The numbers of exported images and polygons, and of skipped images.

    Raises:
        ConfigError: no image has a georeference, or an option is not valid.
        MissingPackage: geopandas is not installed.
        StoreError: the store has no classes, and regions are requested.
    """
    if per not in PER:
        raise ConfigError(f"--per {per}: expected region or mask")
    if simplify < 0 or (simplify and per == "mask"):
        raise ConfigError(
            f"--simplify {simplify:g}: expected metres >= 0, and only with --per region, because "
            "masks overlap and have no common outlines"
        )
    require_georeference(store)
    tally = Tally()
    style = None
    if is_labelled(store) or per == "region":
        store.require("assign")
        style = polygon_style(store.categories())
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        if per == "region":
            parts = [*_regions(store, Path(temporary), simplify, tally)]
        else:
            parts = [*_masks(store, tally)]
    _count_skipped(store, tally)
    geometry, crs = join_layers([(polygons.geometry, polygons.crs) for polygons, _ in parts])
    if len({polygons.crs for polygons, _ in parts}) > 1:
        logger.warning("the rasters have several CRSs; all polygons are converted to the first")
    names = [*parts[0][1]] if parts else []
    columns = {name: np.concatenate([row[name] for _, row in parts]) for name in names}
    write_layer(folder / f"{per}s{suffix}", geometry, columns, crs, layer=f"{per}s", style=style)
    return tally


def _regions(
    store: LabelStore, temporary: Path, simplify: float | int, tally: Tally
) -> Iterator[Part]:
    names = _names(store)
    for raster in index_maps(store, temporary):
        polygons = index_map_to_polygons(
            raster.path, simplify=simplify, georeference=raster.georeference
        )
        tally.images += 1
        tally.groups["regions"] += len(polygons)
        yield (
            polygons,
            {
                "class_id": polygons.value,
                "class": _classes(polygons.value, names),
                "area_m2": polygons.area_m2,
                "raster": np.full(len(polygons), raster.raster, object),
            },
        )


def _masks(store: LabelStore, tally: Tally) -> Iterator[Part]:
    """Yield the masks of each image or raster; pieces of an object in several windows are joined.

    Images of a raster are consecutive in the plan.
    """
    names = _names(store) if is_labelled(store) else {}
    pieces = (piece for piece in _pieces(store, tally) if len(piece.outlines))
    for raster, group in groupby(pieces, key=lambda piece: piece.raster):
        first, *others = group
        outlines = np.concatenate([piece.outlines for piece in (first, *others)])
        object_id, category_id, score, area = (
            np.concatenate([getattr(piece, name) for piece in (first, *others)])
            for name in ("object_id", "category_id", "score", "area")
        )
        joined, ids = join_outlines(outlines, object_id)
        index = np.searchsorted(ids, object_id)
        polygons = place_outlines(joined, ids, first.georeference)
        class_of = np.full(len(ids), -1, np.int64)
        class_of[index] = category_id
        weighted = np.bincount(index, score * area, len(ids)) / np.bincount(index, area, len(ids))
        tally.masks += len(ids)
        yield (
            polygons,
            {
                "mask_id": ids,
                "class_id": class_of,
                "class": _classes(class_of, names),
                "score": weighted,
                "area_m2": polygons.area_m2,
                "raster": np.full(len(ids), raster, object),
            },
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """The masks of an image, or those of a window that are not replaced by other windows'."""

    raster: str
    georeference: Georeference
    outlines: np.ndarray  # in pixels of the raster
    object_id: Int64[np.ndarray, " N"]  # mask id in an image, object id in a raster
    category_id: Int[np.ndarray, " N"]  # -1: no class
    score: Float32[np.ndarray, " N"]
    area: Int64[np.ndarray, " N"]  # px


def _pieces(store: LabelStore, tally: Tally) -> Iterator[_Pieces]:
    """Yield the masks of the images that have a georeference; one shard is in memory at a time."""
    for shard in tqdm(range(len(store.plan)), "masks", unit="shard"):
        objects = store.shard(shard).objects() if store.has_objects(shard) else None
        start = 0
        for image in labelled_images(store, shard):
            record, masks = image.record, image.masks
            rows, start = slice(start, start + len(masks)), start + len(masks)
            georeference = georeference_of(image.status)
            if georeference is None:
                continue
            tally.images += 1
            keep, object_id = masks.area > 0, np.arange(len(masks))
            tally.skipped["empty"] += int((~keep).sum())
            if objects is not None:
                keep, object_id = keep & objects.kept[rows], objects.object_id[rows]
            yield _Pieces(
                record.image_id if record.window is None else raster_id(record.image_id),
                georeference,
                outline_masks(masks[keep], record.window),
                object_id[keep],
                image.category_id[keep],
                masks.predicted_iou[keep],
                masks.area[keep],
            )


def _count_skipped(store: LabelStore, tally: Tally) -> None:
    tally.skipped[NO_PLACE] += sum(georeference_of(status) is None for status in store.images())


def _names(store: LabelStore) -> dict[int, str]:
    return {category.id: category.name for category in store.categories()}


def _classes(ids: Int[np.ndarray, " N"], names: dict[int, str]) -> np.ndarray:
    return np.array([names.get(class_id) for class_id in ids.tolist()], object)
