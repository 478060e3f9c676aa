"""Inconsistencies between rasters and the features of vector files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alps.images.files.audit import Occurrences, count_of
from alps.images.geo.layers import Layers
from alps.rasters.features import RasterFeatures
from alps.rasters.vectors import Layer
from alps.structures.findings import Finding


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRaster:
    """The features of one raster, and counts about its layer."""

    layer: Layer
    features: RasterFeatures
    repaired: int
    unusable: int
    no_crs: bool


def audit_features(rasters: Mapping[str, LabelledRaster], layers: Layers) -> list[Finding]:
    """Return the inconsistencies of features.

    Args:
        rasters: all rasters by file name.
        layers: the vector files.
    """
    by_path = {raster.layer.path: raster for raster in rasters.values()}
    inside: dict[Path, set[int]] = {path: set() for path in by_path}
    empty, outside, repaired, unusable, unknown, no_crs = (Occurrences() for _ in range(6))
    for name, raster in rasters.items():
        inside[raster.layer.path].update(raster.features.row.tolist())
        empty.add(name, int(not len(raster.features)))
    per_class: Counter[str | None] = Counter()
    for path, raster in by_path.items():
        outside.add(path.name, len(raster.layer) - len(inside[path]) - raster.unusable)
        repaired.add(path.name, raster.repaired)
        unusable.add(path.name, raster.unusable)
        no_crs.add(path.name, int(raster.no_crs))
        for row in sorted(inside[path]):
            category = layers.category(raster.layer, row)
            per_class[category] += 1
            if category not in layers.ids:
                unknown.add(f"{path.name} feature {row}: {category or 'no class'}")
    total = sum(len(raster.layer) for raster in by_path.values())
    absent = [name for name in layers.names if not per_class[name]]
    findings = [
        Finding(
            "vectors_without_crs",
            no_crs.count,
            f"{count_of(no_crs.count, len(by_path), 'vector file')} have no CRS, or degrees as CRS "
            f"of coordinates in metres {no_crs}; the CRS of the raster is assumed",
            "check that the features lie on their objects, or write the CRS: "
            "ogr2ogr -a_srs EPSG:... out.gpkg in.geojson",
        ),
        Finding(
            "features_outside",
            outside.count,
            f"{count_of(outside.count, total, 'feature')} lie outside all rasters {outside}",
            "check the CRS of vectors and rasters; until then they are skipped",
        ),
        Finding(
            "rasters_without_features",
            empty.count,
            f"{count_of(empty.count, len(rasters), 'raster')} have no feature {empty}",
            "remove them, unless they really contain no object: their pixels are "
            f"{'background' if layers.background else 'ignored'}",
        ),
        Finding(
            "unknown_class",
            unknown.count,
            f"{count_of(unknown.count, total, 'feature')} have none of the classes {unknown}",
            "add their classes to dataset.classes; until then they are ignored",
        ),
        Finding(
            "unusable_features",
            unusable.count,
            f"{count_of(unusable.count, total, 'feature')} are empty, or neither polygon, line "
            f"nor point {unusable}",
            "remove or repair them; until then they are skipped",
        ),
        Finding(
            "repaired_features",
            repaired.count,
            f"{count_of(repaired.count, total, 'feature')} had invalid outlines, which were "
            f"repaired {repaired}",
            "check them, for example with QGIS: Fix geometries",
        ),
        Finding(
            "absent_classes",
            len(absent),
            f"{count_of(len(absent), len(layers.names), 'class', 'classes')} never occur "
            f"(first: {', '.join(absent[:1])})",
            "correct dataset.classes, or remove them from the list",
        ),
    ]
    return [finding for finding in findings if finding.count]
