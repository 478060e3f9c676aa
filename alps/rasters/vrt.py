"""GDAL's virtual rasters (VRT), which consist of parts of other files.

A VRT can name any file, URL or driver, and even Python code. It is therefore read only where the
user names it, and GDAL gets a copy which contains only elements that are known to be harmless and
only files below permitted folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from alps.rasters.gdal import find_driver

#: Maximum size of a VRT; a source takes some 500 bytes.
MAX_BYTES = 1 << 26
#: Remedy for VRTs that do more than combine files.
REWRITE = "write its values into a file: gdal_translate in.vrt out.tif"
#: Elements that are copied with everything below them.
COPIED = {"SRS", "GeoTransform", "GCPList"}
#: Elements of a band that are copied; the rest does not change values.
BAND_PARTS = {"Description", "ColorInterp", "NoDataValue", "HideNoDataValue", "ColorTable"}
SOURCES = {"SimpleSource", "ComplexSource", "AveragedSource", "KernelFilteredSource"}
#: Elements of a source that are copied, in addition to its file name.
SOURCE_PARTS = {
    *("SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "UseMaskBand"),
    *("ScaleOffset", "ScaleRatio", "SrcMin", "SrcMax", "DstMin", "DstMax", "Exponent", "Clamp"),
    *("LUT", "ColorTableComponent", "Kernel"),
}
#: Elements that are dropped because they do not change values.
IGNORED = {
    *("Metadata", "OverviewList", "Overview", "Histograms", "CategoryNames", "UnitType"),
    *("Offset", "Scale", "BlockXSize", "BlockYSize", "GDALRasterAttributeTable", "OpenOptions"),
}


@dataclass(frozen=True, slots=True)
class Vrt:
    """A checked VRT.

    Args:
        xml: the document for GDAL, with absolute paths.
        sources: the files it reads.
    """

    xml: str
    sources: tuple[Path, ...]


def read_vrt(path: Path, roots: Sequence[str | Path] = ()) -> Vrt:
    """Read and check a VRT.

    Args:
        path: the VRT.
        roots: folders whose files it may read, besides the folder of the VRT itself.

    Returns:
        The checked VRT.

    Raises:
        ValueError: it is damaged, uses code or computes bands, or reads other VRTs, remote files
            or files elsewhere.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is a VRT of more than {MAX_BYTES} bytes; split it")
    try:
        root = fromstring(data, forbid_dtd=True)
    except (ET.ParseError, DefusedXmlException, LookupError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"it is not a valid VRT: {reason}; {REWRITE}") from error
    if root.tag != "VRTDataset" or root.get("subClass"):
        kind = root.get("subClass") or root.tag
        raise ValueError(f"it is a VRT of the kind {kind[:60]}, expected VRTDataset; {REWRITE}")
    folders = [folder.resolve() for folder in (path.parent, *map(Path, roots))]
    copy = Element("VRTDataset", {key: root.get(key, "") for key in ("rasterXSize", "rasterYSize")})
    checker = _Checker(path, folders)
    for child in root:
        if child.tag in COPIED:
            copy.append(child)
        elif child.tag == "VRTRasterBand":
            copy.append(checker.copy_band(child))
        elif child.tag == "MaskBand":
            mask = ET.SubElement(copy, "MaskBand")
            mask.extend(checker.copy_band(band) for band in child)
        elif child.tag not in IGNORED:
            raise ValueError(f"its element <{child.tag[:60]}> is not supported; {REWRITE}")
    return Vrt(ET.tostring(copy, encoding="unicode"), tuple(sorted(checker.sources)))


class _Checker:
    """Copies bands and checks the files that they read.

    Args:
        path: the VRT.
        folders: folders whose files may be read, resolved.
    """

    def __init__(self, path: Path, folders: Sequence[Path]) -> None:
        self._path, self._folders = path, folders
        self.sources = set[Path]()

    def copy_band(self, band: Element) -> Element:
        """Return a copy of a band without unknown elements."""
        kind = band.get("subClass", "VRTSourcedRasterBand")
        if band.tag != "VRTRasterBand" or kind != "VRTSourcedRasterBand":
            raise ValueError(f"it has a band of the kind {kind[:60]}; {REWRITE}")
        attributes = {k: v for k, v in band.items() if k in ("dataType", "band")}
        copy = Element("VRTRasterBand", attributes)
        for child in band:
            if child.tag in BAND_PARTS:
                copy.append(child)
            elif child.tag == "MaskBand":
                mask = ET.SubElement(copy, "MaskBand")
                mask.extend(self.copy_band(band) for band in child)
            elif child.tag in SOURCES:
                copy.append(self._copy_source(child))
            elif child.tag not in IGNORED:
                raise ValueError(f"its element <{child.tag[:60]}> is not supported; {REWRITE}")
        return copy

    def _copy_source(self, source: Element) -> Element:
        """Return a copy of a source with the resolved path of its file."""
        copy = Element(source.tag, dict(source.items()))
        for child in source:
            if child.tag == "SourceFilename":
                file = self._check(child)
                self.sources.add(file)
                attributes = {"relativeToVRT": "0", "shared": "0"}
                ET.SubElement(copy, "SourceFilename", attributes).text = str(file)
            elif child.tag in SOURCE_PARTS:
                copy.append(child)
            elif child.tag not in IGNORED:
                raise ValueError(f"its element <{child.tag[:60]}> is not supported; {REWRITE}")
        return copy

    def _check(self, element: Element) -> Path:
        """Return the resolved path of a source; raise `ValueError` if it may not be read."""
        name = (element.text or "").strip()
        if "://" in name or name.startswith(("/vsi", "<")) or not name:
            raise ValueError(
                f"its source {name[:200]!r} is not a local file; copy the file beside the VRT, or "
                "list the URIs in a STAC item collection: dataset.root=stac:items.json"
            )
        relative = element.get("relativeToVRT", "0") == "1"
        file = Path(self._path.parent if relative else "", name).resolve()
        if not any(file.is_relative_to(folder) for folder in self._folders):
            raise ValueError(
                f"its source {name[:200]} is not below the folder of the VRT; permit its folder: "
                f"dataset.vrt_roots=[{file.parent}]"
            )
        if file in self.sources:
            return file
        try:
            with file.open("rb") as opened:
                driver = find_driver(opened.read(16))
        except OSError as error:
            raise ValueError(
                f"its source {name[:200]} cannot be read: {error.strerror}; write the VRT again "
                "with gdalbuildvrt"
            ) from error
        if driver is None:
            raise ValueError(
                f"its source {name[:200]} is neither a TIFF nor a JPEG 2000 file; name such files "
                "in the VRT instead of nested VRTs or other formats"
            )
        return file
