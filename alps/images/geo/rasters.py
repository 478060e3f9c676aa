"""Read georeferenced rasters of any size by windows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import EIO
from functools import cached_property
from typing import Any

from alps.errors import ConfigError, DatasetNotFound, ImageError, Unavailable
from alps.images.files.audit import Occurrences, count_of
from alps.images.files.read import to_sample
from alps.images.geo.collection import Collection, RasterFile, locate
from alps.images.geo.handles import open_cached
from alps.images.geo.header import RasterHeader, compare_headers
from alps.images.geo.settings import Names, check_bands, check_gsd, check_limits
from alps.images.geo.stretch import collection_limits
from alps.rasters.band_names import RgbGuess, guess_rgb, is_alpha, resolve_bands
from alps.rasters.pixels import Pixels, blank_invalid
from alps.rasters.raster import Raster
from alps.rasters.sidecars import find_sidecars
from alps.rasters.view import View
from alps.structures.findings import Finding
from alps.structures.records import ImageRecord, Sample
from alps.structures.tiles import cut_tiles
from alps.structures.windows import window_id

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Headers:
    """The headers of a collection.

    Args:
        usable: headers of the rasters that are read.
        unreadable: rasters that cannot be opened.
        other_bands: rasters that lack a band.
        guess: the guess of red, green and blue; None: they are configured.
    """

    usable: list[RasterHeader] = field(default_factory=list)
    unreadable: Occurrences = field(default_factory=Occurrences)
    other_bands: Occurrences = field(default_factory=Occurrences)
    guess: RgbGuess | None = None


class Rasters:
    """Rasters that are read by windows, each of which is an image.

    Rasters that cannot be opened or lack a band are skipped; they are findings.

    Args:
        root: a raster, a folder, a pattern such as ``data/*.tif``, a VRT, ``stac:`` followed by a
            STAC item collection, or a URI of one raster (http, https, s3, gs, az).
        name: name of the image set.
        rgb: bands that become red, green and blue, or one that becomes gray: numbers counted from
            1, descriptions, or colour interpretations. None: guessed from the first raster.
        bands: bands that networks see, likewise. None: the 8-bit RGB image.
        stretch: conversion to 8 bits of bands with more: ``collection`` (between two percentiles
            of each band in a sample of the collection), ``image`` (between two percentiles of each
            raster), or [minimum, maximum] of each band. 8-bit bands are stretched only between
            fixed values, because they have been prepared for display.
        gsd: ground sampling distance to which all rasters are resampled, m. None: as stored.
        window: side of a window, px.
        overlap: minimum overlap of neighbouring windows, px.
        assets: assets of the STAC items that are the bands.
        vrt_roots: folders whose files a VRT may read, besides its own.
        split: split of all windows.

    Raises:
        ConfigError: a setting is not valid.
    """

    def __init__(
        self,
        *,
        root: str,
        name: str = "rasters",
        rgb: Names | None = None,
        bands: Names | None = None,
        stretch: str | Sequence[Sequence[float]] = "collection",
        gsd: float | None = None,
        window: int = 1024,
        overlap: int = 128,
        assets: Sequence[str] | None = None,
        vrt_roots: Sequence[str] = (),
        split: str = "train",
    ) -> None:
        self.name = name
        self.window, self.overlap = window, overlap
        self.split = split
        self.vrt_roots = tuple(vrt_roots)
        self._requested = View(
            rgb=check_bands("rgb", rgb),
            bands=check_bands("bands", bands),
            gsd=check_gsd(gsd),
            assets=None if assets is None else tuple(assets),
        )
        if rgb is not None and len(rgb) not in (1, 3):
            raise ConfigError(
                f"dataset.rgb={[*rgb]} has {len(rgb)} bands, expected 3, or 1 for gray"
            )
        if not 0 <= overlap < window:
            raise ConfigError(
                f"dataset.overlap={overlap}, expected 0 or more and less than dataset.window="
                f"{window}"
            )
        self.stretch = stretch if isinstance(stretch, str) else check_limits(stretch)
        if isinstance(self.stretch, str) and self.stretch not in ("collection", "image"):
            raise ConfigError(
                f"dataset.stretch={stretch}, expected collection, image, or [minimum, maximum] of "
                "each band, such as [[0,3000],[0,3000],[0,3000]]"
            )
        self._collection = Collection(root, assets, self.vrt_roots)
        self.root = self._collection.root

    @property
    def view(self) -> Mapping[str, Any]:
        """Settings of `alps.rasters.view.View`, as JSON values.

        For ``stretch=collection`` the first access reads a sample of the rasters. ``vrt_roots`` is
        included if it is not empty, because a store needs it to read the rasters again.
        """
        roots = {"vrt_roots": [*self.vrt_roots]} if self.vrt_roots else {}
        return {**self._view.to_json(), **roots}

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of the bands that networks see; None: RGB."""
        return self._bands.names

    def headers(self) -> list[RasterHeader]:
        """Return the headers of all rasters that can be read.

        Raises:
            DatasetNotFound: there are none.
            ConfigError: the first raster lacks a band, or does not say which bands are RGB.
            Unavailable: the network failed.
        """
        return self._headers.usable

    def records(self) -> list[ImageRecord]:
        """Return one record for each window of each raster.

        Raises:
            DatasetNotFound: there are no rasters.
            ConfigError: the first raster lacks a band, or does not say which bands are RGB.
            Unavailable: the network failed.
        """
        return [
            ImageRecord(
                window_id(header.file.raster_id, tile),
                header.file.file_name,
                self.split,
                header.file.bytes,
                window=tile,
            )
            for header in self.headers()
            for tile in cut_tiles(header.size, self.window, self.overlap)
        ]

    def read(self, record: ImageRecord) -> Sample:
        """Read one window; raise `ImageError` if it cannot be read."""
        pixels = read_window(self.root, record, self._view, vrt_roots=self.vrt_roots)
        return to_sample(record, pixels)

    def findings(self) -> list[Finding]:
        """Return differences between the rasters, and rasters that cannot be used."""
        headers = self._headers
        usable, n = headers.usable, len(self._files)
        findings = [
            Finding(
                "unreadable_rasters",
                headers.unreadable.count,
                f"{count_of(headers.unreadable.count, n, 'raster')} cannot be opened and are "
                f"skipped {headers.unreadable}",
                "replace or remove them",
            ),
            Finding(
                "rasters_without_bands",
                headers.other_bands.count,
                f"{count_of(headers.other_bands.count, n, 'raster')} lack a band and are skipped "
                f"{headers.other_bands}",
                "add the band, remove them, or set dataset.rgb and dataset.bands to bands that "
                "all rasters have",
            ),
            *compare_headers(usable, resampled=self._requested.gsd is not None),
            *find_sidecars(file.file_name for file in self._files),
        ]
        if headers.guess is not None and not headers.guess.certain:
            findings.append(
                Finding(
                    "guessed_rgb",
                    len(usable),
                    f"red, green and blue are guessed to be the bands "
                    f"{_listed(headers.guess.bands)} from {headers.guess.reason}",
                    f"confirm them with dataset.rgb={_listed(headers.guess.bands)}, or set others",
                )
            )
        return [finding for finding in findings if finding.count]

    @cached_property
    def _files(self) -> list[RasterFile]:
        """All rasters of the collection."""
        return self._collection.files()

    @cached_property
    def _headers(self) -> Headers:
        """The headers of the collection, each read once."""
        headers = Headers()
        for file in self._files:
            try:
                header = self._read_header(file)
            except ImageError as error:
                _refuse_network_failure(error)
                headers.unreadable.add(str(error).replace(f"{self.root}/", ""))
                continue
            if not headers.usable and not headers.other_bands.count:
                headers.guess = self._guess_rgb(header)
            try:
                _check_layout(headers, header)
                for bands in (self._rgb(headers), self._requested.bands or ()):
                    resolve_bands(header.bands, bands)
            except ValueError as error:
                if not headers.usable:
                    raise ConfigError(
                        f"{file.file_name}: {error}; set dataset.rgb and dataset.bands to bands "
                        "that it has"
                    ) from error
                headers.other_bands.add(f"{file.file_name}: {error}")
                continue
            headers.usable.append(header)
        if not headers.usable:
            raise DatasetNotFound(
                f"none of the {len(self._files)} rasters in {self.root} can be read "
                f"{headers.unreadable}"
            )
        return headers

    def _read_header(self, file: RasterFile) -> RasterHeader:
        """Open one raster; raise `ImageError` if it cannot be used."""
        ImageRecord(file.raster_id, file.file_name, self.split)  # checks that it can be stored
        stored_view = View(assets=self._requested.assets, gsd=self._requested.gsd)
        with self._open(file, stored_view) as raster:
            return RasterHeader(
                file, raster.size, raster.bands, raster.georeference, raster.stored_gsd
            )

    def _guess_rgb(self, header: RasterHeader) -> RgbGuess | None:
        """Return and log the guess of red, green and blue, unless they are configured."""
        if self._requested.rgb is not None:
            return None
        try:
            guess = guess_rgb(header.bands)
        except ValueError as error:
            assets = self._requested.assets
            if assets is None or len(assets) not in (1, 3):
                raise ConfigError(f"{header.file.file_name}: {error}") from error
            guess = RgbGuess(assets, "the order of dataset.assets", certain=False)
        logger.info(
            "%s: %s %s, from %s of %s; set dataset.rgb to choose others",
            self.name,
            "red, green and blue are the bands" if len(guess.bands) > 1 else "gray is the band",
            _listed(guess.bands),
            guess.reason,
            header.file.file_name,
        )
        return guess

    def _rgb(self, headers: Headers) -> tuple[int | str, ...]:
        """Return the configured or guessed bands."""
        if self._requested.rgb is not None:
            return self._requested.rgb
        assert headers.guess is not None  # made from the first header
        return headers.guess.bands

    @cached_property
    def _bands(self) -> View:
        """The view without limits."""
        headers = self._headers
        bands, names = self._requested.bands, None
        if bands is not None:
            first = headers.usable[0].bands
            numbers = resolve_bands(first, bands)
            names = tuple(first[n - 1].description or str(n) for n in numbers)
        return replace(self._requested, rgb=self._rgb(headers), names=names)

    @cached_property
    def _view(self) -> View:
        """The resolved view."""
        view, usable = self._bands, self._headers.usable
        if self.stretch == "image":
            return view
        if not isinstance(self.stretch, str):
            return replace(view, limits=self.stretch)
        rgb = [
            header.bands[n - 1]
            for header in usable
            for n in resolve_bands(header.bands, view.rgb or ())
        ]
        if all(band.dtype == "uint8" for band in rgb):
            return view
        limits = collection_limits(usable, lambda header: self._open(header.file, view))
        return replace(view, limits=limits)

    def _open(self, file: RasterFile, view: View) -> Raster:
        """Open a raster that the caller closes."""
        paths = locate(self.root, file.file_name, view.assets)
        return Raster(paths, view, vrt_roots=self.vrt_roots)


def read_window(
    root: str, record: ImageRecord, view: View, *, vrt_roots: Sequence[str] = ()
) -> Pixels:
    """Read the window of a record of `Rasters`.

    The file name of a record is relative to ``root``. For a URI, ``root`` is the URI without its
    last part and the file name is that part. For an item of a STAC collection the file name is
    ``FILE#ID``, and the assets are those of the view.

    Args:
        root: root of the image set.
        record: the window.
        view: view of the image set.
        vrt_roots: folders whose files a VRT may read, besides its own.

    Returns:
        The image, valid mask and bands of the window, and the georeference of the whole raster.

    Raises:
        ImageError: it cannot be read.
    """
    paths = locate(root, record.file_name, view.assets)
    return blank_invalid(open_cached(paths, view, vrt_roots).read(record.window))


def _check_layout(headers: Headers, header: RasterHeader) -> None:
    """Raise `ValueError` if a guess by the number of bands does not apply to a raster."""
    guess = headers.guess
    if guess is None or not headers.usable or isinstance(guess.bands[0], str):
        return
    count, first = (_count_colors(h) for h in (header, headers.usable[0]))
    if count != first:
        raise ValueError(
            f"it has {count} bands without alpha, and the first raster has {first}, so "
            f"{guess.reason} does not apply to it"
        )


def _count_colors(header: RasterHeader) -> int:
    """Return the number of bands of a raster that are not alpha."""
    return sum(not is_alpha(band) for band in header.bands)


def _listed(bands: Sequence[int | str]) -> str:
    """Return bands as a list that the command line accepts."""
    return f"[{','.join(map(str, bands))}]"


def _refuse_network_failure(error: ImageError) -> None:
    """Raise `Unavailable` if the disk or the network failed."""
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == EIO:
        raise Unavailable(
            f"{error}; the disk or the network failed, so the run stops instead of skipping the "
            "raster; repeat the command when it is available again"
        ) from error
