"""QGIS styles (QML) that show classes in their colours."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from alps.structures.records import Category

#: Version of QGIS whose format is written; later versions read it.
QGIS = "3.22.0"
#: Opacity of polygons, so that the image below stays visible.
OPACITY = "0.6"
OUTLINE = "35,35,35,255"


def polygon_style(categories: Sequence[Category], field: str = "class_id") -> str:
    """Return a style for polygons with a symbol per class.

    Args:
        categories: the classes.
        field: attribute that has the id of the class.
    """
    root = ET.Element("qgis", version=QGIS, styleCategories="Symbology")
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=field)
    entries = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for n, category in enumerate(categories):
        ET.SubElement(
            entries,
            "category",
            symbol=str(n),
            value=str(category.id),
            type="long",
            label=category.name,
            render="true",
        )
        symbol = ET.SubElement(symbols, "symbol", type="fill", name=str(n), alpha=OPACITY)
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1")
        color = ",".join(map(str, (*category.color, 255)))
        for key, value in (
            ("color", color),
            ("style", "solid"),
            ("outline_color", OUTLINE),
            ("outline_style", "solid"),
            ("outline_width", "0.1"),
            ("outline_width_unit", "MM"),
        ):
            ET.SubElement(layer, "prop", k=key, v=value)
    return _to_text(root)


def raster_style(categories: Sequence[Category]) -> str:
    """Return a style for an index map with the colour and name of each class."""
    root = ET.Element("qgis", version=QGIS, styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1")
    palette = ET.SubElement(renderer, "colorPalette")
    for category in categories:
        color = "#{:02x}{:02x}{:02x}".format(*category.color)
        ET.SubElement(
            palette,
            "paletteEntry",
            value=str(category.id),
            color=color,
            label=category.name,
            alpha="255",
        )
    return _to_text(root)


def _to_text(root: ET.Element) -> str:
    ET.indent(root)
    head = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return head + ET.tostring(root, encoding="unicode") + "\n"
