"""Import the optional packages for vector data."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from alps.errors import MissingPackage


def import_geo(name: str) -> Any:
    """Return a package of the extra ``geo``.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"vector data needs {name}, which cannot be imported ({error}): "
            'pip install "alps-segmentation[geo]"'
        ) from error
