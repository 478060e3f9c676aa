"""Cloud Optimized GeoTIFFs of the index maps: one mosaic, or one per raster."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from alps.export.georeferenced import NO_PLACE, georeference_of, index_maps, require_georeference
from alps.export.instances import Tally
from alps.rasters.cog import join_maps, share_grid, write_cog
from alps.store.label_store import LabelStore

logger = logging.getLogger(__name__)


def write_cogs(store: LabelStore, folder: Path) -> Tally:
    """Write mosaic.tif if the rasters share a grid, else <raster>.tif, with QGIS styles.

    Where rasters of a mosaic overlap, the first in the plan that has a class counts.

    Returns:
        The numbers of exported and skipped images.

    Raises:
        ConfigError: no image has a georeference.
        StoreError: the store has no classes.
    """
    store.require("assign")
    require_georeference(store)
    tally, categories = Tally(), store.categories()
    tally.skipped[NO_PLACE] = sum(georeference_of(status) is None for status in store.images())
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        maps = [*index_maps(store, Path(temporary))]
        tally.images = len(maps)
        paths = [index_map.path for index_map in maps]
        if len(maps) > 1 and share_grid(paths):
            mosaic = Path(temporary, "mosaic.tif")
            join_maps(paths, mosaic)
            write_cog(mosaic, folder / "mosaic.tif", categories)
            tally.groups["mosaic"] = 1
            return tally
        if len(maps) > 1:
            logger.warning(
                "the rasters do not share a grid (CRS, pixel size, whole pixels between corners, "
                "north up), or lie far apart; one COG is written per raster"
            )
        for index_map in maps:
            target = folder / f"{index_map.raster}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_cog(index_map.path, target, categories)
    return tally
