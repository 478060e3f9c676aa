"""STAC item collections: JSON files that list rasters as items with one file for each band."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from alps.errors import ConfigError, DatasetNotFound, ImageError, MissingPackage
from alps.images.files.limits import MAX_DATASET_BYTES, read_bytes
from alps.rasters.remote import is_uri

#: Maximum number of names in a message.
MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class StacItem:
    """One item of a collection.

    Args:
        item_id: its id.
        hrefs: absolute path or URI of each asset by name.
    """

    item_id: str
    hrefs: Mapping[str, str]

    def select(self, assets: Sequence[str]) -> tuple[str, ...]:
        """Return the files of assets.

        Args:
            assets: names of the assets.

        Raises:
            ImageError: the item lacks an asset.
        """
        missing = [name for name in assets if name not in self.hrefs]
        if missing:
            raise ImageError(
                f"item {self.item_id} has no asset {missing[0]!r}; it has {list_names(self.hrefs)}"
            )
        return tuple(self.hrefs[name] for name in assets)


def list_names(names: Mapping[str, str]) -> str:
    """Return names for a message, or "no assets"."""
    listed = ", ".join(sorted(names)[:MAX_LISTED])
    return f"{listed}{', …' * (len(names) > MAX_LISTED)}" or "no assets"


def read_items(path: Path) -> dict[str, StacItem]:
    """Return the items of a collection by id.

    Args:
        path: a local item collection or GeoJSON FeatureCollection of items.

    Raises:
        DatasetNotFound: there is no such file.
        ConfigError: it is not an item collection.
        MissingPackage: pystac is not installed.
    """
    try:
        return _read_items(path, path.stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise DatasetNotFound(
            f"{path.absolute()} does not exist; set dataset.root=stac:FILE to an item collection"
        ) from error


@lru_cache(4)
def _read_items(path: Path, _time: int) -> dict[str, StacItem]:
    """Return the items of a file; a changed file misses the cache."""
    try:
        import pystac
    except ImportError as error:
        raise MissingPackage(
            f"{path} is a STAC item collection; reading it needs pystac, which is not installed: "
            'pip install "alps-segmentation[geo]"'
        ) from error
    try:
        document: Any = json.loads(read_bytes(path, MAX_DATASET_BYTES))
        items = list(pystac.ItemCollection.from_dict(document))
    except FileNotFoundError:
        raise
    except Exception as error:  # pystac raises many types on malformed documents
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise ConfigError(
            f"{path} is not a STAC item collection ({reason}); expected a FeatureCollection of "
            "items, such as the response of a STAC search"
        ) from error
    folder = path.parent.absolute()
    collection: dict[str, StacItem] = {}
    for item in items:
        if item.id in collection:
            raise ConfigError(f"{path} has two items {item.id!r}; remove one")
        hrefs = {name: _absolute(asset.href, folder) for name, asset in item.assets.items()}
        collection[item.id] = StacItem(item.id, hrefs)
    return collection


def _absolute(href: str, folder: Path) -> str:
    """Return the URI or absolute path of an asset."""
    if is_uri(href):
        return href
    if href.startswith("file://"):
        href = unquote(urlsplit(href).path)
    return str(folder / href)
