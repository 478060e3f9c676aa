"""Rasters by windows; replaced by `alps.images.geo.rasters.Rasters`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alps.errors import DatasetNotFound
from alps.images.plain.folder import Folder
from alps.rasters.gdal import RASTER_SUFFIXES
from alps.rasters.pixels import blank_invalid
from alps.rasters.raster import Raster
from alps.structures.findings import Finding
from alps.structures.records import ImageRecord, Sample
from alps.structures.tiles import cut_tiles
from alps.structures.windows import window_id


class Rasters:
    """The windows of a GeoTIFF, or of all GeoTIFFs of a folder.

    Args:
        root: the file or folder.
        window: side of a window, px.
        overlap: minimum overlap of neighbouring windows, px.
        split: split of all windows.
        name: name of the image set.
    """

    def __init__(
        self, *, root: str, window: int, overlap: int, split: str, name: str, **_: Any
    ) -> None:
        self.root = root if Path(root).is_dir() else str(Path(root).parent)
        self.source = root
        self.window, self.overlap, self.split, self.name = window, overlap, split, name

    @property
    def view(self) -> Mapping[str, Any]:
        """Settings of `alps.rasters.view.View`."""
        return {}

    def records(self) -> list[ImageRecord]:
        """Return the windows of all rasters.

        Raises:
            DatasetNotFound: there is no raster.
        """
        if Path(self.source).is_dir():
            files = [(r.image_id, r.file_name) for r in Folder(self.root, self.name).records()]
        else:
            files = [(Path(self.source).stem, Path(self.source).name)]
        files = [(i, name) for i, name in files if name.lower().endswith(RASTER_SUFFIXES)]
        if not files:
            raise DatasetNotFound(f"no GeoTIFF under {self.source}; set dataset.root")
        records = []
        for image_id, name in files:
            path = Path(self.root, name)
            with Raster(path) as raster:
                records += [
                    ImageRecord(
                        *(window_id(image_id, tile), name, self.split, path.stat().st_size),
                        window=tile,
                    )
                    for tile in cut_tiles(raster.size, self.window, self.overlap)
                ]
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one window."""
        with Raster(Path(self.root, record.file_name)) as raster:
            pixels = blank_invalid(raster.read(record.window))
            return Sample(
                record.image_id,
                pixels.image,
                valid=pixels.valid,
                window=record.window,
                georeference=raster.georeference,
            )

    def findings(self) -> list[Finding]:
        """Return no finding."""
        return []
