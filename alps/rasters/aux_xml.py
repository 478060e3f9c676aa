"""The file ``.aux.xml`` in which GDAL and other programs keep what a raster cannot store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from rasterio import CRS, Affine
from rasterio.errors import CRSError

#: Maximum size of a file. Attribute tables can be large, and are not used.
MAX_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class AuxXml:
    """The part of an ``.aux.xml`` file that is used; it overrides the raster, as in GDAL.

    Args:
        crs: coordinate reference system.
        transform: affine transform.
        nodata: no-data value of the first band that has one.
        descriptions: description of bands by number.
    """

    crs: CRS | None = None
    transform: Affine | None = None
    nodata: float | None = None
    descriptions: Mapping[int, str] = field(default_factory=dict)


def read_aux_xml(path: Path) -> AuxXml:
    """Read ``.aux.xml`` beside a raster; elements that could name other files are ignored.

    Args:
        path: the raster.

    Returns:
        The settings; empty if there is no such file.

    Raises:
        ValueError: the file is not XML, or a value cannot be parsed.
    """
    path = path.with_name(f"{path.name}.aux.xml")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return AuxXml()
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        return _parse(fromstring(data, forbid_dtd=True))
    except (ParseError, DefusedXmlException, CRSError, LookupError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"its sidecar {path.name} is not valid: {reason}; delete it, or write it again with "
            "gdal_edit.py"
        ) from error


def _parse(root: Element) -> AuxXml:
    """Return the settings in the root element."""
    bands: list[Any] = [*root.iter("PAMRasterBand")]
    numbers = [int(band.get("band", 0)) for band in bands]
    nodata = [text for band in bands if (text := _text(band, "NoDataValue"))]
    descriptions = {
        number: text
        for number, band in zip(numbers, bands, strict=True)
        if (text := _text(band, "Description"))
    }
    crs, transform = _text(root, "SRS"), _text(root, "GeoTransform")
    coefficients = [float(number) for number in transform.split(",")] if transform else []
    if len(coefficients) not in (0, 6):
        raise ValueError(f"GeoTransform has {len(coefficients)} numbers, expected 6")
    return AuxXml(
        crs=CRS.from_wkt(crs) if crs else None,
        transform=Affine.from_gdal(*coefficients) if coefficients else None,
        nodata=float(nodata[0]) if nodata else None,
        descriptions=descriptions,
    )


def _text(element: Element, tag: str) -> str:
    """Return the stripped text of a child element; "" if there is none."""
    return (element.findtext(tag) or "").strip()
