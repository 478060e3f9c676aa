"""Formats of vector layers that are written."""

from __future__ import annotations

from collections.abc import Mapping

#: Suffix of the file by name of the format.
VECTORS: Mapping[str, str] = {
    "gpkg": ".gpkg",
    "geoparquet": ".parquet",
    "geojson": ".geojson",
    "flatgeobuf": ".fgb",
}
