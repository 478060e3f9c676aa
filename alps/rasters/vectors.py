"""Read and write vector layers: polygons, lines and points with attributes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.rasters.measure import metres_per_unit
from alps.rasters.packages import import_geo

#: First bytes of a file by suffix. GDAL chooses its driver from the content, and some drivers
#: open other files or addresses.
MAGIC: Mapping[str, bytes] = {
    ".gpkg": b"SQLite format 3\0",
    ".geojson": b"{",
    ".json": b"{",
    ".fgb": b"fgb",
    ".shp": b"\0\0\x27\x0a",
    ".parquet": b"PAR1",
}
#: GDAL's driver by suffix, for writing.
DRIVERS: Mapping[str, str] = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".fgb": "FlatGeobuf"}
#: Decimals of a coordinate in GeoJSON: 0.1 mm.
DECIMALS = 9
POINTS, LINES, AREAS = (0, 4), (1, 2, 5), (3, 6)  # type ids of shapely


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The features of a vector layer.

    Args:
        path: the file.
        geometry: N geometries of shapely, 2D; None: no geometry.
        category: class of each feature; None: no class.
        crs: coordinate reference system as WKT; None: unknown.
    """

    path: Path
    geometry: np.ndarray
    category: tuple[str | None, ...]
    crs: str | None

    def __len__(self) -> int:
        return len(self.geometry)


@dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """The features of a layer as polygons in the CRS of a raster.

    Args:
        geometry: N polygons or multipolygons; empty if the feature cannot be used.
        repaired: whether the geometry of a feature was invalid and has been repaired.
        unusable: whether a feature has no geometry, or one that is no area.
        is_point: whether a feature is a point.
    """

    geometry: np.ndarray
    repaired: Bool[np.ndarray, " N"]
    unusable: Bool[np.ndarray, " N"]
    is_point: Bool[np.ndarray, " N"]


def read_layer(path: str | Path, *, field: str | None = None, layer: str | None = None) -> Layer:
    """Read a GeoPackage, GeoJSON, FlatGeobuf, Shapefile or GeoParquet file.

    Args:
        path: the file.
        field: attribute that contains the class of a feature. None: no classes.
        layer: name of the layer, if the file has several.

    Returns:
        The features. A GeoJSON file whose coordinates are not degrees has an unknown CRS.

    Raises:
        ConfigError: there is no such attribute or layer, or the format is not supported.
        DatasetNotFound: there is no such file.
        LabelError: the file cannot be read.
        MissingPackage: geopandas is not installed.
    """
    path = Path(path)
    frame = _read_frame(path, layer)
    if field is not None and field not in frame.columns:
        names = ", ".join(map(str, frame.columns.drop("geometry"))) or "none"
        raise ConfigError(
            f"{path} has no attribute {field!r}; its attributes are {names}; set dataset.field to "
            "the one with the classes, or to null for a single class"
        )
    values = [None] * len(frame) if field is None else frame[field].tolist()
    geometry = import_geo("shapely").force_2d(frame.geometry.to_numpy())
    crs = None if frame.crs is None else frame.crs.to_wkt()
    if crs is not None and frame.crs.is_geographic and path.suffix.lower() in (".geojson", ".json"):
        # GeoJSON is in degrees unless it states something else, and many files do not.
        bounds = np.abs(frame.total_bounds)
        if np.nanmax(bounds, initial=0) > 360:
            crs = None
    return Layer(path, np.asarray(geometry, object), tuple(map(_to_name, values)), crs)


def to_areas(
    layer: Layer,
    crs: str | None,
    *,
    width: float | int | None = None,
    point_size: float | int | None = None,
) -> Areas:
    """Return the features of a layer as valid polygons in the CRS of a raster.

    Args:
        layer: the layer; if its CRS is unknown, it is assumed to be that of the raster.
        crs: the CRS of the raster as WKT; None: unknown, coordinates are not converted.
        width: width of lines in metres.
        point_size: side of the squares around points in metres.

    Returns:
        One polygon or multipolygon per feature.

    Raises:
        ConfigError: there are lines or points without a width or size in metres.
    """
    shapely, geopandas = import_geo("shapely"), import_geo("geopandas")
    kinds = shapely.get_type_id(layer.geometry)
    lines, points = np.isin(kinds, LINES), np.isin(kinds, POINTS)
    for number, kind, rows, key in (
        (width, "lines", lines, "dataset.width"),
        (point_size, "points", points, "dataset.point_size"),
    ):
        if rows.any() and number is None:
            raise ConfigError(
                f"{layer.path} contains {np.count_nonzero(rows)} {kind}, which have no area; set "
                f"{key} in metres, such as {key}=3"
            )
    series = geopandas.GeoSeries(layer.geometry, crs=layer.crs or crs)
    if layer.crs is not None and crs is not None:
        series = series.to_crs(crs)
    geometry = np.array(series.to_numpy(), object)
    if lines.any():
        geometry[lines] = _buffer(geometry[lines], crs, (width or 0) / 2, cap="flat")
    if points.any():
        geometry[points] = _buffer(geometry[points], crs, (point_size or 0) / 2, cap="square")
    unusable = ~np.isin(kinds, (*POINTS, *LINES, *AREAS)) | shapely.is_empty(geometry)
    unusable |= ~np.isfinite(shapely.bounds(geometry)).all(axis=1)
    geometry[unusable] = shapely.Polygon()
    invalid = ~shapely.is_valid(geometry)
    geometry[invalid] = shapely.make_valid(
        geometry[invalid], method="structure", keep_collapsed=False
    )
    collapsed = shapely.is_empty(geometry) & ~unusable
    return Areas(geometry, invalid & ~collapsed, unusable | collapsed, points)


def join_layers(parts: Sequence[tuple[np.ndarray, str | None]]) -> tuple[np.ndarray, str | None]:
    """Join geometries, converted to the CRS of the first part that has one.

    Args:
        parts: geometries of shapely and their CRS as WKT; None: unknown, not converted.

    Returns:
        All geometries, and their CRS.
    """
    crs = next((crs for _, crs in parts if crs is not None), None)
    joined = [np.zeros(0, object)]
    for geometry, own in parts:
        if own not in (None, crs):
            series = import_geo("geopandas").GeoSeries(geometry, crs=own).to_crs(crs)
            geometry = series.to_numpy()
        joined.append(np.asarray(geometry, object))
    return np.concatenate(joined), crs


def write_layer(
    path: Path,
    geometry: np.ndarray,
    columns: Mapping[str, Any],
    crs: str | None,
    *,
    layer: str,
    style: str | None = None,
) -> None:
    """Write polygons with attributes as GeoPackage, GeoJSON, FlatGeobuf or GeoParquet.

    Coordinates of GeoJSON are longitude and latitude (RFC 7946).

    Args:
        path: the file to write; its suffix decides on the format.
        geometry: N geometries of shapely.
        columns: attributes, N values each.
        crs: coordinate reference system as WKT; None: unknown.
        layer: name of the layer.
        style: QGIS style, written to a ``.qml`` file beside it, and into a GeoPackage.

    Raises:
        ConfigError: GeoJSON is requested, and the CRS is unknown.
        MissingPackage: geopandas or pyogrio is not installed.
    """
    frame = import_geo("geopandas").GeoDataFrame(dict(columns), geometry=geometry, crs=crs)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        frame.to_parquet(path, compression="zstd")
    else:
        options: dict[str, Any] = {"geometry_type": "MultiPolygon", "promote_to_multi": True}
        if suffix == ".geojson":
            if crs is None:
                raise ConfigError(
                    "GeoJSON is in longitude and latitude, but the CRS of the raster is unknown; "
                    "choose gpkg, flatgeobuf or geoparquet, or assign a CRS: gdal_edit.py -a_srs"
                )
            frame = frame.to_crs("OGC:CRS84")
            options = {"RFC7946": "YES", "COORDINATE_PRECISION": str(DECIMALS)}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            import_geo("pyogrio").write_dataframe(
                frame, path, driver=DRIVERS[suffix], layer=layer, **options
            )
    if style is not None:
        path.with_suffix(".qml").write_text(style, encoding="utf-8")
        if suffix == ".gpkg":
            _write_style(path, layer, style)


def _write_style(path: Path, layer: str, style: str) -> None:
    """Write a style into the table that QGIS reads when it opens a GeoPackage."""
    pandas = import_geo("pandas")
    row = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": "geom",
        "styleName": layer,
        "styleQML": style,
        "styleSLD": "",
        "useAsDefault": True,
        "description": "class colours",
        "owner": "",
        "update_time": pandas.Timestamp.now("UTC").floor("s"),
    }
    import_geo("pyogrio").write_dataframe(
        pandas.DataFrame([row]), path, driver="GPKG", layer="layer_styles", FID="id", append=True
    )


def _read_frame(path: Path, layer: str | None) -> Any:
    suffix = path.suffix.lower()
    if suffix not in MAGIC:
        raise ConfigError(f"{path} is no vector file, expected {', '.join(MAGIC)}; convert it")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise DatasetNotFound(
            f"there is no {path.absolute()}; set dataset.vectors to a vector file or a folder"
        ) from None
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror or error}") from error
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(MAGIC[suffix]):
        raise LabelError(f"cannot read {path}: its content is not that of a {suffix} file")
    geopandas, pyogrio = import_geo("geopandas"), import_geo("pyogrio")
    try:
        if suffix == ".parquet":
            return geopandas.read_parquet(path)
        names = [str(name) for name in pyogrio.list_layers(path)[:, 0] if name != "layer_styles"]
        if layer is None and len(names) != 1:
            raise ConfigError(
                f"{path} has {len(names)} layers ({', '.join(names)}), expected one; choose one "
                "with dataset.layer=NAME"
            )
        if layer is not None and layer not in names:
            raise ConfigError(
                f"{path} has no layer {layer!r}; its layers are {', '.join(names)}; set "
                "dataset.layer to one of them"
            )
        frame = pyogrio.read_dataframe(path, layer=layer or names[0])
    except ConfigError:
        raise
    except Exception as error:  # GDAL and Arrow raise many types on damaged files
        reason = " ".join((str(error) or type(error).__name__).split())[:400]
        raise LabelError(f"cannot read {path}: {reason}") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise LabelError(f"{path} has no geometries, expected polygons, lines or points")
    return frame


def _to_name(value: Any) -> str | None:
    """Return the class of a feature as text; numbers without decimals lose their point."""
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) or None


def _buffer(geometry: np.ndarray, crs: str | None, distance: float, cap: str) -> np.ndarray:
    """Enlarge lines or points by a distance in metres.

    Args:
        geometry: the geometries.
        crs: their CRS as WKT; for a geographic one, the distance is measured in a UTM zone.
        distance: the distance, m.
        cap: shape of the ends.

    Returns:
        The polygons.

    Raises:
        ConfigError: the CRS is unknown.
    """
    if crs is None:
        raise ConfigError(
            "dataset.width and dataset.point_size are metres, but the CRS of the raster is "
            "unknown; assign one: gdal_edit.py -a_srs EPSG:... raster.tif"
        )
    shapely, unit = import_geo("shapely"), metres_per_unit(crs)
    if unit is not None:
        return np.asarray(shapely.buffer(geometry, distance / unit, cap_style=cap), object)
    series = import_geo("geopandas").GeoSeries(geometry, crs=crs)
    zone = series.estimate_utm_crs()
    wide = series.to_crs(zone).buffer(distance, cap_style=cap)
    return np.asarray(wide.to_crs(crs).to_numpy(), object)
