"""The rasters of a store with their georeference: index maps as GeoTIFFs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alps.errors import ConfigError
from alps.rasters.index_map import create_index_map
from alps.store.files import read_index_png
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
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
    georeference: Georeference | None = getattr(status, "georeference", None)
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
    colors = [category.color for category in store.categories()]
    written = set[Path]()
    for records in store.plan:
        for record in records:
            georeference = places.get(record.image_id)
            raster = record.image_id if record.window is None else raster_id(record.image_id)
            path = store.root / "ann" / record.split / f"{raster}.tif"
            if georeference is None or path in written:
                continue
            written.add(path)
            if record.window is None:
                png = path.with_suffix("").with_name(f"{path.name.removesuffix('.tif')}.png")
                if not png.exists():  # the image could not be read
                    continue
                labels = read_index_png(png)
                path = folder / f"{len(written)}.tif"
                size = (labels.shape[0], labels.shape[1])
                with create_index_map(
                    path, size, georeference, colors, store.info.ignore_index
                ) as write:
                    write(Tile(0, 0, size[1], size[0]), labels)
            if path.exists():
                yield IndexMap(raster, path, georeference)
