"""Rasters with a vector layer: polygons as ground truth, and their boxes as prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.files.audit import Occurrences, count_of
from alps.images.files.labels import Labels, refuse_unlabelled
from alps.images.files.listing import contents
from alps.images.geo.stand_in import Rasters
from alps.rasters.features import RasterFeatures
from alps.rasters.raster import Raster
from alps.rasters.vectors import MAGIC, Layer, read_layer, to_areas
from alps.structures import rle
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.digest import digest
from alps.structures.findings import Finding
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.paint import ignore_index_for
from alps.structures.palette import color_classes
from alps.structures.records import Category, ImageRecord, Sample
from alps.structures.tiles import Tile
from alps.structures.windows import WindowGrid, raster_id

#: Name of the class of pixels outside all features.
BACKGROUND = "background"
#: Name of the class of all features if no attribute has the classes.
OBJECT = "object"


@dataclass(frozen=True, slots=True, eq=False)
class _LabelledRaster:
    """The features of one raster, and the findings about its layer."""

    layer: Layer
    features: RasterFeatures
    repaired: int
    unusable: int
    no_crs: bool


class Vectors:
    """Windows of rasters, with the features of a vector layer.

    The layer is converted to the CRS of each raster; if its own is unknown, it is assumed to be the
    same. As ground truth, features are drawn with their class, small ones over large ones;
    features of other classes are ignored. As prompts, each feature has a box, which is given to one
    window, or to all windows that it overlaps if it is larger than a window.

    Args:
        root: a GeoTIFF, or a folder of GeoTIFFs; see `alps.images.Rasters`.
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
        if isinstance(classes, str) or len({*(classes or ())}) < len(classes or ()):
            raise ConfigError(
                f"dataset.classes={classes}: expected a list of distinct names, one per class, "
                "such as [building,road]"
            )
        if background and classes is not None and BACKGROUND in classes:
            raise ConfigError(
                f"dataset.classes contains {BACKGROUND!r}, the name of class 0; rename it, or set "
                "dataset.background=false"
            )
        for key, value in (("width", width), ("point_size", point_size)):
            if value is not None and not 0 < value < 1e6:
                raise ConfigError(f"dataset.{key}={value}: expected metres > 0")
        self.vectors = vectors
        self.field = field
        self.classes = classes
        self.layer = layer
        self.background = background
        self.width = width
        self.point_size = point_size
        self.name = name
        self._rasters = Rasters(
            root=root, name=name, split=split, window=window, overlap=overlap, **rasters
        )
        self._labelled: dict[str, _LabelledRaster] = {}

    @property
    def root(self) -> str:
        """Folder of the rasters."""
        return self._rasters.root

    @property
    def view(self) -> Mapping[str, Any]:
        """Settings of `alps.rasters.view.View`, as JSON values."""
        return self._rasters.view

    @property
    def ignore_index(self) -> int:
        """Value of pixels that are excluded from training and scores."""
        return ignore_index_for(len(self.categories()))

    @property
    def protocol(self) -> str:
        """Evaluation protocol that scores are reported under."""
        outside = "class 0" if self.background else "ignored"
        return (
            f"{self.name}: {len(self.categories())} classes of {Path(self.vectors).name}, pixels "
            f"outside all features {outside}"
        )

    def records(self) -> list[ImageRecord]:
        """Return the windows of all rasters, with digests of the features in them.

        Raises:
            ConfigError: the layer has no such attribute, or lines or points have no size.
            DatasetNotFound: there is no raster, or no vector file.
            LabelError: a raster has no vector file, or a file cannot be read.
        """
        records = self._windows
        names = self._names
        result = []
        for record in records:
            raster = self._features_of(record)
            rows = raster.features.overlapping(_window(record))
            ids = raster.features.row[rows].tolist()
            objects = [
                (row, self._category(raster.layer, row), code)
                for row, code in zip(ids, raster.features.stored(rows), strict=True)
            ]
            settings = names, raster.layer.crs, self.width, self.point_size
            result.append(replace(record, annotations=digest(settings, objects)))
        return result

    def read(self, record: ImageRecord) -> Sample:
        """Read one window and the boxes of its features; raise `ImageError` if it is unreadable."""
        sample = self._rasters.read(record)
        raster, window = self._features_of(record), _window(record)
        rows = raster.features.prompted_in(window)
        annotations, ids = [], []
        for index in rows:
            row = int(raster.features.row[index])
            box, quad = raster.features.box_in(int(index), window)
            annotations.append(
                Annotation(
                    where=f"feature {row}",
                    category=self._category(raster.layer, row) or "",
                    points=box.tolist(),
                    quad=None if quad is None else quad.tolist(),
                )
            )
            ids.append(row)
        boxes, dropped = check_boxes(annotations, self._ids, sample.size)
        boxes = replace(boxes, object_id=np.array(ids, np.int32)[boxes.object_id])
        file = raster.layer.path.name
        return replace(sample, boxes=boxes, dropped=tuple(f"{file} {line}" for line in dropped))

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes([*[BACKGROUND] * self.background, *self._names])

    def read_target(self, record: ImageRecord) -> Labels:
        """Draw the index map of one window."""
        raster, window = self._features_of(record), _window(record)
        rows = raster.features.overlapping(window)
        classes = [self._category(raster.layer, row) for row in raster.features.row[rows].tolist()]
        values = [self._ids.get(name or "", self.ignore_index) for name in classes]
        dtype = np.uint8 if self.ignore_index <= 255 else np.uint16
        fill = 0 if self.background else self.ignore_index
        drawn: Labels = raster.features.burn(window, rows, np.array(values, dtype), fill)
        return drawn

    @property
    def has_instances(self) -> bool:
        """Whether any feature has an outline; points have none."""
        rasters = self._all_rasters()
        return any((~raster.features.is_point).any() for raster in rasters.values())

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
        """Return inconsistencies between rasters and features."""
        rasters = self._all_rasters()
        layers = {raster.layer.path: raster for raster in rasters.values()}
        inside: dict[Path, set[int]] = {path: set() for path in layers}
        per_class: Counter[str | None] = Counter()
        empty = Occurrences()
        for name, raster in rasters.items():
            rows = raster.features.row.tolist()
            inside[raster.layer.path].update(rows)
            if not rows:
                empty.add(name)
        outside, repaired, unusable = Occurrences(), Occurrences(), Occurrences()
        unknown, no_crs, total = Occurrences(), Occurrences(), 0
        for path, raster in layers.items():
            total += len(raster.layer)
            lost = len(raster.layer) - len(inside[path]) - raster.unusable
            outside.add(path.name, lost)
            repaired.add(path.name, raster.repaired)
            unusable.add(path.name, raster.unusable)
            no_crs.add(path.name, int(raster.no_crs))
            for row in sorted(inside[path]):
                per_class[category := self._category(raster.layer, row)] += 1
                if category not in self._ids:
                    unknown.add(f"{path.name} feature {row}: {category or 'no class'}")
        absent = [name for name in self._names if not per_class[name]]
        return [
            *self._rasters.findings(),
            *(
                finding
                for finding in (
                    Finding(
                        "vectors_without_crs",
                        no_crs.count,
                        f"{count_of(no_crs.count, len(layers), 'vector file')} state no CRS, or "
                        f"degrees for coordinates that are none {no_crs}; the CRS of the raster is "
                        "assumed",
                        "check that the features lie on the right objects, or write the CRS: "
                        "ogr2ogr -a_srs EPSG:... out.gpkg in.geojson",
                    ),
                    Finding(
                        "features_outside",
                        outside.count,
                        f"{count_of(outside.count, total, 'feature')} lie outside all rasters "
                        f"{outside}",
                        "check the CRS of vectors and rasters; until then they are skipped",
                    ),
                    Finding(
                        "rasters_without_features",
                        empty.count,
                        f"{count_of(empty.count, len(rasters), 'raster')} have no feature {empty}",
                        "remove them unless they really contain no object; all their pixels are "
                        f"{'background' if self.background else 'ignored'}",
                    ),
                    Finding(
                        "unknown_class",
                        unknown.count,
                        f"{count_of(unknown.count, total, 'feature')} have none of the classes "
                        f"{unknown}",
                        "add their classes to dataset.classes; until then they are ignored",
                    ),
                    Finding(
                        "unusable_features",
                        unusable.count,
                        f"{count_of(unusable.count, total, 'feature')} are empty, or no polygon, "
                        f"line or point {unusable}",
                        "remove or repair them; until then they are skipped",
                    ),
                    Finding(
                        "repaired_features",
                        repaired.count,
                        f"{count_of(repaired.count, total, 'feature')} had invalid outlines, which "
                        f"were repaired {repaired}",
                        "check them, for example with QGIS: Fix geometries",
                    ),
                    Finding(
                        "absent_classes",
                        len(absent),
                        f"{count_of(len(absent), len(self._names), 'class', 'classes')} never "
                        f"occur (first: {', '.join(absent[:1])})",
                        "correct dataset.classes, or remove them from the list",
                    ),
                )
                if finding.count
            ),
        ]

    @cached_property
    def _windows(self) -> list[ImageRecord]:
        """The windows of all rasters, without digests."""
        return self._rasters.records()

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        """The vector file of each raster, by raster id; with one file for all, only ""."""
        path = Path(self.vectors)
        if not path.is_dir():
            return {"": path}
        files: dict[str, Path] = {}
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in MAGIC):
            stem = file.relative_to(path).with_suffix("").as_posix()
            if (other := files.setdefault(stem, file)) != file:
                raise LabelError(f"{other} and {file} annotate the same raster; remove one of them")
        if not files:
            raise DatasetNotFound(
                f"no vector file under {path.absolute()} ({contents(path)}), expected "
                f"{', '.join(MAGIC)}; set dataset.vectors"
            )
        rasters = {raster_id(record.image_id) for record in self._windows}
        missing = sorted(rasters - files.keys())
        refuse_unlabelled(missing, len(rasters), f"a vector file of the same name in {path}")
        return files

    @cached_property
    def _layers(self) -> dict[Path, Layer]:
        files = {*self._files.values()}
        return {
            path: read_layer(path, field=self.field, layer=self.layer) for path in sorted(files)
        }

    @cached_property
    def _names(self) -> list[str]:
        """Names of the classes without the background."""
        if self.field is None:
            names = [*(self.classes or (OBJECT,))]
            if len(names) > 1:
                raise ConfigError(
                    f"dataset.classes={names} are {len(names)} classes, but dataset.field=null "
                    "gives all features one class; set dataset.field to the attribute with the "
                    "classes"
                )
            return names
        if self.classes is not None:
            return [str(name) for name in self.classes]
        values = {name for layer in self._layers.values() for name in layer.category if name}
        if not values or (self.background and BACKGROUND in values):
            found = "no class" if not values else f"the class {BACKGROUND!r}"
            raise LabelError(
                f"the attribute {self.field} of {self.vectors} has {found}; set dataset.classes "
                "and dataset.field" + ", or dataset.background=false" * bool(values)
            )
        return sorted(values)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        """Class ids by name."""
        return {name: i for i, name in enumerate(self._names, int(self.background))}

    def _category(self, layer: Layer, row: int) -> str | None:
        return self._names[0] if self.field is None else layer.category[row]

    @cached_property
    def _grids(self) -> Mapping[str, WindowGrid]:
        """The windows of each raster, by file name."""
        by_file = groupby(self._windows, key=lambda record: record.file_name)
        return {name: WindowGrid(map(_window, group)) for name, group in by_file}

    def _all_rasters(self) -> Mapping[str, _LabelledRaster]:
        for record in {record.file_name: record for record in self._windows}.values():
            self._features_of(record)
        return self._labelled

    def _features_of(self, record: ImageRecord) -> _LabelledRaster:
        """Return the features of the raster of a window."""
        name = record.file_name
        if name not in self._labelled:
            files = self._files
            layer = self._layers[files.get("") or files[raster_id(record.image_id)]]
            with Raster(Path(self.root, name)) as raster:
                georeference = raster.georeference
            if georeference is None or georeference.transform is None:
                raise LabelError(
                    f"{name} has no georeference (a transform), so the features of "
                    f"{layer.path.name} cannot be placed on it; remove it, or georeference it "
                    "with gdal_translate -a_ullr, or with gdalwarp from ground control points"
                )
            self._labelled[name] = self._place(layer, georeference, self._grids[name])
        return self._labelled[name]

    def _place(self, layer: Layer, georeference: Georeference, grid: WindowGrid) -> _LabelledRaster:
        areas = to_areas(layer, georeference.crs, width=self.width, point_size=self.point_size)
        return _LabelledRaster(
            layer=layer,
            features=RasterFeatures(layer, areas, georeference, grid),
            repaired=int(areas.repaired.sum()),
            unusable=int(areas.unusable.sum()),
            no_crs=layer.crs is None and georeference.crs is not None,
        )


def _window(record: ImageRecord) -> Tile:
    assert record.window is not None, "the records of rasters are windows"
    return record.window
