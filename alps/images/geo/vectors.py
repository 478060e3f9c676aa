"""Rasters with a vector layer: polygons as ground truth, and their boxes as prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alps.errors import ConfigError, LabelError
from alps.images.files.labels import Labels
from alps.images.geo.header import RasterHeader
from alps.images.geo.layers import BACKGROUND, Layers
from alps.images.geo.rasters import Rasters
from alps.images.geo.vector_audit import LabelledRaster, audit_features
from alps.rasters.features import RasterFeatures
from alps.rasters.vectors import to_areas
from alps.structures import rle
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.digest import digest
from alps.structures.findings import Finding
from alps.structures.masks import Masks
from alps.structures.paint import ignore_index_for
from alps.structures.palette import color_classes
from alps.structures.records import Category, ImageRecord, Sample
from alps.structures.tiles import Tile, cut_tiles
from alps.structures.windows import WindowGrid


class Vectors:
    """Windows of rasters, with the features of a vector layer.

    The layer is converted to the CRS of each raster; if its own is unknown, it is assumed to be the
    same. As ground truth, features are drawn with their class, small ones over large ones; features
    of other classes are ignored. As prompts, each feature has a box in one window, or in all
    windows that it overlaps if it is larger than a window.

    Args:
        root: the rasters (`alps.images.Rasters`).
        vectors: a vector file for all rasters, or a folder with one for each, of the same name.
        field: attribute that contains the class. None: all features have one class.
        classes: names of the classes, in the order of their ids. None: all values of ``field``, in
            alphabetical order.
        layer: name of the layer, if the files have several.
        background: class id 0, named "background", for pixels outside all features. False: such
            pixels are ignored.
        width: width of lines in metres.
        point_size: side of the boxes around points in metres.
        name: name of the image set.
        split: split of all windows.
        window: side of a window, px.
        overlap: minimum overlap of neighbouring windows, px.
        rasters: further arguments of `alps.images.Rasters`, such as ``rgb`` and ``stretch``.

    Raises:
        ConfigError: ``classes`` is not a list of distinct names, or a number is out of range.
    """

    def __init__(
        self,
        *,
        root: str,
        vectors: str,
        field: str | None = None,
        classes: Sequence[str] | None = None,
        layer: str | None = None,
        background: bool = True,
        width: float | int | None = None,
        point_size: float | int | None = None,
        name: str = "vectors",
        split: str = "train",
        window: int = 1024,
        overlap: int = 128,
        **rasters: Any,
    ) -> None:
        for key, value in (("width", width), ("point_size", point_size)):
            if value is not None and not 0 < value < 1e6:
                raise ConfigError(f"dataset.{key}={value}: expected metres > 0, or null")
        self.vectors = vectors
        self.width = width
        self.point_size = point_size
        self.name = name
        self._layers = Layers(Path(vectors), field, classes, layer, background)
        self._rasters = Rasters(
            root=root, name=name, split=split, window=window, overlap=overlap, **rasters
        )
        self._labelled: dict[str, LabelledRaster] = {}

    @property
    def root(self) -> str:
        """Folder of the rasters."""
        return self._rasters.root

    @property
    def view(self) -> Mapping[str, Any]:
        """Settings of `alps.rasters.view.View`, as JSON values."""
        return self._rasters.view

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of the bands that networks see; None: RGB."""
        return self._rasters.band_names

    @property
    def ignore_index(self) -> int:
        """Value of pixels that are excluded from training and scores."""
        return ignore_index_for(len(self.categories()))

    @property
    def protocol(self) -> str:
        """Evaluation protocol that scores are reported under."""
        outside = "class 0" if self._layers.background else "ignored"
        return (
            f"{self.name}: {len(self.categories())} classes of {Path(self.vectors).name}, pixels "
            f"outside all features {outside}"
        )

    def records(self) -> list[ImageRecord]:
        """Return the windows of all rasters, with digests of the features in them.

        Raises:
            ConfigError: the layer has no such attribute, or lines or points have no size.
            DatasetNotFound: there is no raster, or no vector file.
            LabelError: a raster has no vector file or no georeference, or a file cannot be read.
        """
        self._layers.require([header.file.raster_id for header in self._headers.values()])
        return [self._with_digest(record) for record in self._rasters.records()]

    def read(self, record: ImageRecord) -> Sample:
        """Read one window and the boxes of its features; raise `ImageError` if it is unreadable."""
        sample = self._rasters.read(record)
        raster, window = self._features_of(record), _window(record)
        indices = raster.features.prompted_in(window)
        rows = raster.features.row[indices]
        annotations = []
        for index, row in zip(indices.tolist(), rows.tolist(), strict=True):
            box, quad = raster.features.box_in(index, window)
            annotations.append(
                Annotation(
                    where=f"feature {row}",
                    category=self._layers.category(raster.layer, row) or "",
                    points=box.tolist(),
                    quad=None if quad is None else quad.tolist(),
                )
            )
        boxes, dropped = check_boxes(annotations, self._layers.ids, sample.size)
        boxes = replace(boxes, object_id=rows[boxes.object_id].astype(np.int32))
        file = raster.layer.path.name
        return replace(sample, boxes=boxes, dropped=tuple(f"{file} {line}" for line in dropped))

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes([*[BACKGROUND] * self._layers.background, *self._layers.names])

    def read_target(self, record: ImageRecord) -> Labels:
        """Draw the index map of one window."""
        raster, window = self._features_of(record), _window(record)
        indices = raster.features.overlapping(window)
        rows = raster.features.row[indices].tolist()
        names = [self._layers.category(raster.layer, row) for row in rows]
        ignore_index = self.ignore_index
        values = [self._layers.ids.get(name or "", ignore_index) for name in names]
        dtype = np.uint8 if ignore_index <= 255 else np.uint16
        fill = 0 if self._layers.background else ignore_index
        drawn: Labels = raster.features.burn(window, indices, np.array(values, dtype), fill)
        return drawn

    @property
    def has_instances(self) -> bool:
        """Whether any feature has an outline; points have none."""
        return any((~raster.features.is_point).any() for raster in self._all.values())

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """Draw the features of boxes as masks, clipped to the window.

        Args:
            record: the window.
            boxes: boxes returned by `read`, possibly a subset.
            size: (H, W) of the window, px.

        Returns:
            The masks with their boxes, without points.
        """
        features, window = self._features_of(record).features, _window(record)
        indices = np.searchsorted(features.row, boxes.object_id)
        outlined = np.flatnonzero(~features.is_point[indices])
        counts = [rle.encode(features.mask_in(int(indices[i]), window)[None])[0] for i in outlined]
        return Masks.from_counts(counts, size, boxes=boxes[outlined])

    def findings(self) -> list[Finding]:
        """Return inconsistencies of the rasters, and between rasters and features."""
        return [*self._rasters.findings(), *audit_features(self._all, self._layers)]

    @cached_property
    def _headers(self) -> Mapping[str, RasterHeader]:
        """Header of each raster by file name."""
        return {header.file.file_name: header for header in self._rasters.headers()}

    @property
    def _all(self) -> Mapping[str, LabelledRaster]:
        """The features of all rasters, by file name."""
        return {name: self._features_in(header) for name, header in self._headers.items()}

    def _with_digest(self, record: ImageRecord) -> ImageRecord:
        """Return a record with a digest of the classes, and of the features in its window."""
        raster, layers = self._features_of(record), self._layers
        indices = raster.features.overlapping(_window(record))
        rows, codes = raster.features.row[indices].tolist(), raster.features.stored(indices)
        classes = [layers.category(raster.layer, row) for row in rows]
        settings = [*layers.ids.items()], raster.layer.crs, self.width, self.point_size
        return replace(record, annotations=digest(settings, rows, classes, codes))

    def _features_of(self, record: ImageRecord) -> LabelledRaster:
        """Return the features of the raster of a window."""
        return self._features_in(self._headers[record.file_name])

    def _features_in(self, header: RasterHeader) -> LabelledRaster:
        name = header.file.file_name
        if name not in self._labelled:
            self._labelled[name] = self._place(header)
        return self._labelled[name]

    def _place(self, header: RasterHeader) -> LabelledRaster:
        """Convert the features of a raster; raise `LabelError` if it has no transform."""
        layer, georeference = self._layers.of(header.file.raster_id), header.georeference
        if georeference is None or georeference.transform is None:
            raise LabelError(
                f"{header.file.file_name} has no georeference (an affine transform), so the "
                f"features of {layer.path.name} have no place on it; remove it, or write one: "
                "gdal_edit.py -a_ullr, or gdalwarp for ground control points"
            )
        areas = to_areas(layer, georeference.crs, width=self.width, point_size=self.point_size)
        grid = WindowGrid(cut_tiles(header.size, self._rasters.window, self._rasters.overlap))
        return LabelledRaster(
            layer=layer,
            features=RasterFeatures(layer, areas, georeference, grid),
            repaired=int(areas.repaired.sum()),
            unusable=int(areas.unusable.sum()),
            no_crs=layer.crs is None and georeference.crs is not None,
        )


def _window(record: ImageRecord) -> Tile:
    assert record.window is not None, "the records of rasters are windows"
    return record.window
