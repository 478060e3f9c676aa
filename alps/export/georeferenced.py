"""The rasters of a store with their georeference: index maps as GeoTIFFs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alps.errors import ConfigError
from alps.rasters.index_map import create_index_map
from alps.store.files import read_index_png
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus, index_map_path
from alps.structures.georeference import Georeference
from alps.structures.tiles import Tile
from alps.structures.windows import raster_id

#: Reason for a skipped image.
NO_PLACE = "images without georeference"


@dataclass(frozen=True, slots=True)
class IndexMap:
    """The index map of a raster, a GeoTIFF."""

    raster: str  # id of the raster
    path: Path
    georeference: Georeference


def georeference_of(status: ImageStatus) -> Georeference | None:
    """Return the georeference of an image, or of the raster of a window; None: unknown.

    Ground control points are not enough: they define no grid.
    """
    georeference = status.georeference
    return georeference if georeference is not None and georeference.transform else None


def require_georeference(store: LabelStore) -> None:
    """Raise `ConfigError` if no image of a store has a georeference."""
    if not any(georeference_of(status) for status in store.images()):
        raise ConfigError(
            f"no image of {store.root} has a georeference (a CRS with a transform), so its labels "
            "cannot be placed on a map; label GeoTIFFs, or choose another layout, such as --to coco"
        )


def index_maps(store: LabelStore, folder: Path) -> Iterator[IndexMap]:
    """Yield the index map of each georeferenced raster; those of windows are stored as GeoTIFFs.

    Args:
        store: a finished label store with classes.
        folder: folder for temporary files: the index maps of whole images, as GeoTIFFs.

    Yields:
        The index maps; a temporary file is valid until the folder is deleted.
    """
    places = {status.image_id: georeference_of(status) for status in store.images()}
    colors, names = zip(*((c.color, c.name) for c in store.categories()), strict=True)
    files = set[str]()
    for records in store.plan:
        for record in records:
            georeference, file = places.get(record.image_id), index_map_path(record)
            path = store.root / file
            # An image that could not be read has no index map.
            if georeference is None or file in files or not path.exists():
                continue
            files.add(file)
            if record.window is not None:
                yield IndexMap(raster_id(record.image_id), path, georeference)
                continue
            labels = read_index_png(path)
            path = folder / f"{len(files)}.tif"
            size = labels.shape[0], labels.shape[1]
            ignore_index = store.info.ignore_index
            with create_index_map(
                path, size, georeference, colors, ignore_index, names=names
            ) as write:
                write(Tile(0, 0, size[1], size[0]), labels)
            yield IndexMap(record.image_id, path, georeference)
