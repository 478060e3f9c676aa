"""Bands of rasters by number or name, and which of them are red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Descriptions of red, green and blue: colours, Sentinel-2, and surface reflectance of Landsat 8
#: and 9. Compared without regard to case.
COLORS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("B04", "B03", "B02"),
    ("B4", "B3", "B2"),
    ("SR_B4", "SR_B3", "SR_B2"),
)
#: First name for Landsat 8 and 9. Band 4 of Landsat 4 to 7 is near infrared; files of these have a
#: band 1 without a band 6.
LANDSAT_8 = "SR_B4"
#: Maximum number of bands in a message.
MAX_LISTED = 16


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a raster.

    Args:
        number: index, counted from 1.
        description: text by which the file describes the band; "": none.
        interpretation: GDAL's colour interpretation, such as ``red`` or ``undefined``.
        dtype: data type.
    """

    number: int
    description: str
    interpretation: str
    dtype: str

    def __str__(self) -> str:
        name = f" {self.description}" if self.description else ""
        return f"{self.number}{name} ({self.interpretation}, {self.dtype})"


@dataclass(frozen=True, slots=True)
class RgbGuess:
    """Bands that are assumed to be red, green and blue, or gray.

    Args:
        bands: names, or numbers where the bands have no names.
        reason: what the guess is based on, for messages.
        certain: whether the file itself says so.
    """

    bands: tuple[int | str, ...]
    reason: str
    certain: bool = True


def resolve_bands(bands: Sequence[Band], names: Sequence[int | str]) -> tuple[int, ...]:
    """Return the numbers of bands that are named by number, description or colour.

    Args:
        bands: the bands of the raster.
        names: numbers counted from 1 (also as text), descriptions, or colour interpretations.

    Raises:
        ValueError: the raster lacks a band, or has two bands with this description.

    >>> bands = [Band(1, "B02", "gray", "uint16"), Band(2, "B03", "undefined", "uint16")]
    >>> resolve_bands(bands, ["b03", 1])
    (2, 1)
    """
    return tuple(_resolve_band(bands, name) for name in names)


def _resolve_band(bands: Sequence[Band], name: int | str) -> int:
    """Return the number of one band."""
    if isinstance(name, int):
        matches = [band.number for band in bands if band.number == name]
    else:
        key = name.strip().casefold()
        matches = [b.number for b in bands if b.description.strip().casefold() == key] or [
            b.number for b in bands if key in (b.interpretation, str(b.number))
        ]
    if len(matches) == 1:
        return matches[0]
    problem = f"{len(matches)} bands" if matches else "no band"
    raise ValueError(f"it has {problem} {name!r}; its bands: {list_bands(bands)}")


def guess_rgb(bands: Sequence[Band]) -> RgbGuess:
    """Return the bands that are red, green and blue, or the one that is gray.

    Descriptions count more than the colour interpretation: GDAL interprets the first three bands of
    every new 8-bit file as red, green and blue.

    Args:
        bands: the bands of a raster.

    Raises:
        ValueError: the bands do not say what they are.
    """
    colors = [band for band in bands if not is_alpha(band)]
    descriptions = {band.description.strip().casefold() for band in colors}
    for names in COLORS:
        if {name.casefold() for name in names} <= descriptions and not (
            LANDSAT_8 in names and "sr_b1" in descriptions and "sr_b6" not in descriptions
        ):
            return RgbGuess(names, f"the band descriptions {', '.join(names)}")
    interpretations = [band.interpretation for band in colors]
    rgb = ("red", "green", "blue")
    if all(interpretations.count(color) == 1 for color in rgb) and not any(descriptions - {""}):
        return RgbGuess(rgb, "the colour interpretation")
    if len(colors) == 1:
        return RgbGuess((colors[0].number,), "the only band")
    if all(interpretations.count(color) == 1 for color in rgb):
        return RgbGuess(rgb, "the colour interpretation", certain=False)
    if len(colors) in (3, 4) and all(band.dtype == "uint8" for band in colors):
        numbers = tuple(band.number for band in colors[:3])
        return RgbGuess(numbers, "the order of the 8-bit bands", certain=False)
    raise ValueError(
        f"it does not say which of its bands are red, green and blue: {list_bands(bands)}; set "
        "them by number or description: dataset.rgb=[3,2,1], or one band for gray: dataset.rgb=[1]"
    )


def is_alpha(band: Band) -> bool:
    """Return whether a band is an alpha band.

    By default, GDAL declares the fourth band of a new 8-bit file as alpha, so a description such as
    B08 overrides the declaration.
    """
    named = band.description.strip().casefold() not in ("", "a", "alpha", "mask")
    return band.interpretation == "alpha" and not named


def list_bands(bands: Sequence[Band]) -> str:
    """Return number, description, colour interpretation and data type of each band."""
    more = f", … ({len(bands)} bands)" if len(bands) > MAX_LISTED else ""
    return ", ".join(map(str, bands[:MAX_LISTED])) + more
