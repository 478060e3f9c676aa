"""List the rasters of a file, a folder, a glob, a VRT, a STAC item collection or a URI."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alps.errors import ConfigError, DatasetNotFound
from alps.images.files.ids import image_ids
from alps.images.files.listing import contents, walk
from alps.images.geo.stac import list_names, read_items
from alps.rasters.gdal import RASTER_SUFFIXES
from alps.rasters.limits import VRT_SUFFIX
from alps.rasters.remote import is_uri
from alps.rasters.vrt import read_vrt

#: Prefix of a STAC item collection, and the separator between its file name and the id of an item.
STAC, ITEM = "stac:", "#"
WILDCARDS = "*?["


@dataclass(frozen=True, slots=True)
class RasterFile:
    """One raster of a collection.

    Args:
        file_name: path relative to the root; for an item of a STAC collection ``FILE#ID``.
        raster_id: id of the raster: its path without suffix, or the id of the item.
        bytes: size of the file, for a VRT including its sources; 0 for items and URIs.
    """

    file_name: str
    raster_id: str
    bytes: int = 0


class Collection:
    """The rasters that the setting ``dataset.root`` names.

    Args:
        location: a file, a folder, a pattern with ``*``, ``?`` or ``**``, a VRT, ``stac:`` followed
            by an item collection, or a URI of one file.
        assets: assets of STAC items that are the bands.
        vrt_roots: folders whose files a VRT may read, besides its own.

    Attributes:
        root: the folder or URI to which file names are relative.

    Raises:
        ConfigError: the location or the assets are not valid.
    """

    def __init__(
        self, location: str, assets: Sequence[str] | None, vrt_roots: Sequence[str]
    ) -> None:
        self._location, self._assets, self._vrt_roots = location, assets, vrt_roots
        self.root = _find_root(location)
        if (assets is not None) != location.startswith(STAC):
            problem = (
                "needs dataset.assets=[NAME,...], the assets that become bands"
                if assets is None
                else f"has no assets; set dataset.root={STAC}FILE, or dataset.assets=null"
            )
            raise ConfigError(f"dataset.root={location} {problem}{self._list_assets()}")

    def files(self) -> list[RasterFile]:
        """List all rasters, sorted by path.

        Returns:
            The rasters.

        Raises:
            DatasetNotFound: there are none.
            ConfigError: two paths differ only in case or Unicode normalisation.
        """
        location = self._location
        if location.startswith(STAC):
            path = Path(location.removeprefix(STAC))
            return [
                RasterFile(f"{path.name}{ITEM}{item}", item) for item in sorted(read_items(path))
            ]
        if is_uri(location):
            name = location.rpartition("/")[2]
            return [RasterFile(name, str(PurePosixPath(name).with_suffix("")))]
        names = self._list_names()
        ids = image_ids([PurePosixPath(name) for name in names])
        return [
            RasterFile(name, raster_id, self._bytes(Path(self.root, name)))
            for name, raster_id in zip(names, ids, strict=True)
        ]

    def _list_names(self) -> list[str]:
        """Return the paths of local rasters relative to the root."""
        path, root = Path(self._location), Path(self.root)
        if path.is_file():
            return [path.name]
        if _is_pattern(self._location):
            pattern = path.relative_to(root).as_posix()
            names = [m.relative_to(root).as_posix() for m in root.glob(pattern) if m.is_file()]
        elif root.is_dir():
            names = [name for name, _ in walk(root)]
        else:
            raise DatasetNotFound(
                f"{path.absolute()} does not exist; set dataset.root to a raster, a folder, a "
                f"pattern such as 'data/*.tif', a VRT, {STAC}FILE, or a URI"
            )
        rasters = sorted(name for name in names if name.lower().endswith(RASTER_SUFFIXES))
        if not rasters:
            kind = "match" if _is_pattern(self._location) else "are in"
            raise DatasetNotFound(
                f"no rasters {kind} {path.absolute()}: found {len(names)} other files below "
                f"{root.absolute()} ({contents(root)}), looked for {' '.join(RASTER_SUFFIXES)}; a "
                "VRT must be named itself"
            )
        return rasters

    def _bytes(self, path: Path) -> int:
        """Return the size of a file, for a VRT including its sources; 0 if it is not valid."""
        sources = [path]
        if path.suffix.lower() == VRT_SUFFIX:
            with suppress(ValueError):  # reported when the file is opened
                sources += read_vrt(path, self._vrt_roots).sources
        return sum(source.stat().st_size for source in sources)

    def _list_assets(self) -> str:
        """Return the assets of the first item, for a message."""
        if not self._location.startswith(STAC):
            return ""
        items = read_items(Path(self._location.removeprefix(STAC)))
        first = next(iter(items.values()), None)
        return "" if first is None else f"; {first.item_id} has {list_names(first.hrefs)}"


def locate(root: str, file_name: str, assets: Sequence[str] | None) -> tuple[str, ...]:
    """Return the path or URI of a raster, or of each asset of an item.

    Args:
        root: root of the collection.
        file_name: as in `RasterFile`.
        assets: assets of an item that are the bands. None: the raster is a file.

    Raises:
        ImageError: the item lacks an asset.
    """
    if assets is None:
        return (f"{root}/{file_name}" if is_uri(root) else str(Path(root, file_name)),)
    file, _, item = file_name.partition(ITEM)
    return read_items(Path(root, file))[item].select(assets)


def _find_root(location: str) -> str:
    """Return the folder or URI to which the file names of a location are relative."""
    if location.startswith(STAC):
        file = location.removeprefix(STAC)
        if "://" in file:
            raise ConfigError(
                f"dataset.root={location}: item collections are read from local files; download it"
            )
        return str(Path(file).parent)
    if is_uri(location):
        if "?" in location or ITEM in location:
            raise ConfigError(
                "dataset.root is a URI with parameters, which would be written to the label store; "
                "set credentials in GDAL's environment variables, such as GDAL_HTTP_HEADERS"
            )
        return location.rpartition("/")[0]
    if "://" in location:
        raise ConfigError(
            f"dataset.root={location}: unknown scheme, expected http, https, s3, gs or az"
        )
    path = Path(location)
    if _is_pattern(location):
        fixed = []
        for part in path.parts:
            if any(character in part for character in WILDCARDS):
                break
            fixed.append(part)
        return str(Path(*fixed))
    return str(path.parent if path.is_file() else path)


def _is_pattern(location: str) -> bool:
    """Return whether a location is a pattern rather than the name of a file or folder."""
    return any(c in location for c in WILDCARDS) and not Path(location).exists()
