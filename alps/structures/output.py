"""Names and atomic writes of files in the output folder of a program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alps.errors import ConfigError


def probability_file(index_map: Path) -> Path:
    """Return the file of the probabilities beside a predicted index map."""
    return index_map.with_name(f"{index_map.stem}.probability{index_map.suffix}")


@contextmanager
def write_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success, so that the write is atomic.

    Raises:
        ConfigError: the file cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}; free disk space or fix "
            "the permissions, or choose another folder with output=DIR"
        ) from error
    finally:
        with suppress(OSError):  # already renamed, or never created
            temporary.unlink()
