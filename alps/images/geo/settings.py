"""Checks of the settings of `alps.images.geo.rasters.Rasters`."""

from __future__ import annotations

from collections.abc import Sequence

from alps.errors import ConfigError

#: Bands by number or name.
Names = Sequence[int | str]


def check_bands(name: str, bands: Names | None) -> tuple[int | str, ...] | None:
    """Return the bands of a setting, or raise `ConfigError`."""
    if bands is None:
        return None
    valid = all(
        (isinstance(b, int) and not isinstance(b, bool) and b >= 1) or (isinstance(b, str) and b)
        for b in bands
    )
    if isinstance(bands, str) or not bands or not valid or len({*bands}) < len(bands):
        raise ConfigError(
            f"dataset.{name}={bands}, expected a list of distinct bands: numbers counted from 1 or "
            "descriptions, such as [3,2,1] or [B04,B03,B02]"
        )
    return tuple(bands)


def check_gsd(gsd: float | None) -> float | None:
    """Return the setting, or raise `ConfigError`."""
    if gsd is not None and not 0 < gsd < float("inf"):
        raise ConfigError(f"dataset.gsd={gsd}, expected metres above 0, or null")
    return None if gsd is None else float(gsd)


def check_limits(limits: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """Return the limits of a fixed stretch, or raise `ConfigError`."""
    pairs = tuple(tuple(map(float, pair)) for pair in limits)
    if not pairs or not all(len(pair) == 2 and pair[0] < pair[1] for pair in pairs):
        raise ConfigError(
            f"dataset.stretch={[*map(list, pairs)]}, expected [minimum, maximum] of each band, "
            "such as [[0,3000],[0,3000],[0,3000]]"
        )
    return tuple((pair[0], pair[1]) for pair in pairs)
