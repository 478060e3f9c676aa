"""Read single files of a label store; errors name the file and the remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8, UInt16
from PIL import Image

from alps.errors import StoreError

#: Bytes of manifest.json to read for its counts, which come first.
HEAD = 1024


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file; raise `StoreError` if that fails."""
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise cannot_read(path, error) from error


def read_row_group(path: Path, group: int) -> pa.Table:
    """Read one row group of a Parquet file; raise `StoreError` if that fails."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group)
    except (OSError, pa.ArrowException) as error:
        raise cannot_read(path, error) from error


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Read an array, memory-mapped on request; raise `StoreError` if that fails."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if mapped else None)
        return array
    except (OSError, ValueError, EOFError) as error:
        raise cannot_read(path, error) from error


def read_index_png(path: Path) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
    """Read an index map written by ALPS; raise `StoreError` if that fails."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            values = np.array(image)
        return values if values.dtype == np.uint8 else values.astype(np.uint16)
    except Exception as error:  # decoders may raise any exception on damaged files
        raise cannot_read(path, error) from error


def read_counts(path: Path) -> Mapping[str, int]:
    """Read the counts at the start of manifest.json, but not its list of files, which may be long.

    Returns:
        The number of images in total and by status, and of masks; empty if they cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).decode(errors="replace").partition(',\n "files"')[0]
        return dict(json.loads(head + "}")["counts"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def cannot_read(path: Path, error: Exception) -> StoreError:
    """Return the error about a file that cannot be read."""
    return StoreError(
        f"cannot read {path}: {error}; delete the file and repeat the label.py command, which "
        "makes it again"
    )
