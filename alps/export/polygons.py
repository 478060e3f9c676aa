"""Polygons for a GIS: a vector layer of regions or of masks."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from alps.errors import ConfigError
from alps.export.georeferenced import NO_PLACE, georeference_of, index_maps, require_georeference
from alps.export.instances import Tally, read_instances
from alps.rasters.polygons import Polygons, index_map_to_polygons, masks_to_polygons
from alps.rasters.qml import polygon_style
from alps.rasters.vectors import join_layers, write_layer
from alps.store.label_store import LabelStore
from alps.store.labelled import is_labelled

logger = logging.getLogger(__name__)

#: Suffix of the file by layout.
SUFFIXES = {"gpkg": ".gpkg", "geoparquet": ".parquet", "geojson": ".geojson", "flatgeobuf": ".fgb"}
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
    names = _names(store) if is_labelled(store) else {}
    places = {status.image_id: georeference_of(status) for status in store.images()}
    for stored in read_instances(store):
        record = stored.record
        georeference = places[record.image_id]
        if georeference is None:
            continue
        image = tally.select(stored, {"empty": stored.masks.area == 0})
        polygons = masks_to_polygons(image.masks, georeference, record.window)
        mask_id = np.flatnonzero(stored.masks.area > 0)
        yield (
            polygons,
            {
                "image": np.full(len(polygons), record.image_id, object),
                "mask_id": mask_id,
                "class_id": np.asarray(image.category_id, np.int64),  # -1: no class
                "class": _classes(image.category_id, names),
                "score": image.masks.predicted_iou,
                "area_m2": polygons.area_m2,
            },
        )


def _count_skipped(store: LabelStore, tally: Tally) -> None:
    tally.skipped[NO_PLACE] += sum(georeference_of(status) is None for status in store.images())


def _names(store: LabelStore) -> dict[int, str]:
    return {category.id: category.name for category in store.categories()}


def _classes(ids: Int[np.ndarray, " N"], names: dict[int, str]) -> np.ndarray:
    return np.array([names.get(class_id) for class_id in ids.tolist()], object)
