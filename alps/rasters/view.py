"""How the rasters of a collection are read: bands, stretch to 8 bits, resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from alps.structures.bands import describe_bands


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Settings that determine the pixels which are read from a raster.

    The defaults are those of `alps.rasters.raster.Raster`.

    Args:
        rgb: bands that become red, green and blue (or the one that becomes gray): numbers counted
            from 1, descriptions, or colour interpretations. Names are resolved for each raster.
            None: as the file declares.
        bands: bands for networks, likewise. None: the 8-bit RGB image.
        names: names of ``bands``, by which a checkpoint recognises them.
        limits: values of each band of ``rgb`` that become 0 and 255. None: 8-bit values are kept,
            others are stretched between two percentiles of each raster.
        gsd: ground sampling distance in metres to which rasters are resampled. None: as stored.
        assets: assets of a STAC item that are its bands. None: the raster is a file.
    """

    rgb: tuple[int | str, ...] | None = None
    bands: tuple[int | str, ...] | None = None
    names: tuple[str, ...] | None = None
    limits: tuple[tuple[float, float], ...] | None = None
    gsd: float | None = None
    assets: tuple[str, ...] | None = None

    def describe(self) -> str:
        """Return what networks see of rasters as part of a sentence.

        >>> View(rgb=("B04", "B03", "B02"), limits=((0.0, 3000.0),), gsd=0.5).describe()
        'the bands B04, B03, B02, stretched from (0, 3000) to (0, 255), at 0.5 m per pixel'
        """
        names = self.names or self.bands or self.rgb
        text = describe_bands(None if names is None else [*map(str, names)])
        if self.bands is None and self.limits is not None:  # the other bands keep their values
            pairs = ", ".join(f"({low:g}, {high:g})" for low, high in self.limits)
            text += f", stretched from {pairs} to (0, 255)"
        return text if self.gsd is None else f"{text}, at {self.gsd:g} m per pixel"

    def to_json(self) -> dict[str, Any]:
        """Return the settings that are not None as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> View:
        """Return the view with the settings of `to_json`."""
        values = {f.name: settings[f.name] for f in fields(cls) if f.name in settings}
        for name in {"rgb", "bands", "names", "assets"} & values.keys():
            values[name] = tuple(values[name])
        if "limits" in values:
            values["limits"] = tuple((low, high) for low, high in values["limits"])
        return cls(**values)
