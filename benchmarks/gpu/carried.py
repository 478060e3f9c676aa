"""Copy what the check needs into one folder, for a machine without network.

python -m benchmarks.gpu.carried [FOLDER]

Copies MobileSAM's weights, those of the default features and the sample images from the cache
(missing ones are downloaded). Carry the folder with the repository. If the other machine lacks
packages, add their wheels before, and install them there:

    python -m pip download --no-deps -d build/gpu-check/wheels hydra-core lightning ...
    python -m pip install --no-index --no-deps build/gpu-check/wheels/*.whl
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from alps.images.plain.sample import SampleImages
from alps.pretrained.cache import cache_folder, find_weights
from alps.pretrained.catalog import WEIGHTS

FOLDER = Path("build/gpu-check")
NAMES = ("mobile", "efficientnet_lite0")
LIMIT = 64 * 2**20  # bytes


def fill(folder: Path) -> int:
    """Copy the files that are missing in the folder, and return its size in bytes."""
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if not (weights / WEIGHTS[name].file_name).is_file():
            shutil.copy(find_weights(name), weights)
    SampleImages(str(folder / "sample")).records()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def use(folder: Path) -> Path:
    """Read weights from the folder if the cache has none; return the folder of the sample."""
    cached, carried = (
        [root / "weights" / WEIGHTS[name].file_name for name in NAMES]
        for root in (cache_folder(), folder)
    )
    if all(path.is_file() for path in carried) and not all(path.is_file() for path in cached):
        os.environ["ALPS_CACHE"] = str(folder.absolute())
    return folder / "sample"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    size = fill(folder)
    print(f"{folder}: {size / 2**20:.1f} MiB")
    if size > LIMIT:
        sys.exit(f"error: {folder} is larger than 64 MiB; remove wheels")


if __name__ == "__main__":
    main()
