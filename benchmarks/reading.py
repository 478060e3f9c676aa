"""Compare the reading of tiles by this checkout and another one, in turn.

python -m benchmarks.reading OTHER [--tiles 200] [--side 512] [--rounds 5]

OTHER is the root of another checkout. Each has a process with one thread that reads all tiles of a
kind on request; the CPU seconds of reading are measured. imagecodecs, a test dependency, is hidden
from both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.process import ROOT

#: The process of one checkout: reads the files that match a pattern, and answers with seconds.
CHILD = """
import sys, time
sys.modules["imagecodecs"] = None
from pathlib import Path
try:
    from alps.images.files.read import read_image
except ImportError:  # a checkout up to e2724f9
    from alps.images.read import read_image
for line in sys.stdin:
    files = sorted(Path(line.strip()).iterdir())
    start = time.process_time()
    for file in files:
        read_image(file)
    print(time.process_time() - start, flush=True)
"""
Save = Callable[[Path, np.ndarray], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| tiles | before, ms | now, ms | now / before |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, save in kinds().items():
            write(Path(folder, name), save, arguments.tiles, arguments.side)
        children = [start(root) for root in (arguments.other, ROOT)]
        for name in kinds():
            times = measure(children, Path(folder, name), arguments.rounds)
            before, now = (
                statistics.median(seconds) / arguments.tiles * 1e3
                for seconds in zip(*times, strict=True)
            )
            ratios = sorted(new / old for old, new in times)
            middle = statistics.median(ratios)
            print(
                f"| {name} | {before:.2f} | {now:.2f} | "
                f"{middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) |",
                flush=True,
            )
        for child in children:
            child.communicate()


def kinds() -> dict[str, Save]:
    """Return functions that write a tile, by the name of the kind."""
    from tests.factories import create_raster

    def pillow(suffix: str, **options: object) -> Save:
        return lambda path, a: Image.fromarray(a).save(path.with_suffix(suffix), **options)

    def gdal(dtype: type = np.uint8, **options: object) -> Save:
        return lambda path, a: create_raster(
            path.with_suffix(".tif"), a.transpose(2, 0, 1).astype(dtype) * 1, **options
        )

    rgb = {"photometric": "RGB", "interleave": "pixel"}
    return {
        "PNG": pillow(".png"),
        "JPEG": pillow(".jpg", quality=90),
        "TIFF": gdal(**rgb),
        "TIFF, LZW": gdal(**rgb, compress="lzw"),
        "TIFF, deflate": gdal(**rgb, compress="deflate"),
        "TIFF, deflate in tiles": gdal(**rgb, compress="deflate", tiled=True),
        "TIFF, 16 bits": gdal(np.uint16, **rgb),
        "TIFF, 16 bits, deflate": gdal(np.uint16, **rgb, compress="deflate"),
    }


def write(folder: Path, save: Save, tiles: int, side: int) -> None:
    from tests.factories import draw_scene

    folder.mkdir()
    scene = draw_scene((2 * side, 2 * side))[0]
    rng = np.random.default_rng(0)
    for i in range(tiles):
        y, x = rng.integers(0, side, 2)
        save(folder / f"{i:04d}", np.ascontiguousarray(scene[y : y + side, x : x + side]))


def start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )


def measure(
    children: list[subprocess.Popen[str]], folder: Path, rounds: int
) -> list[tuple[float, float]]:
    """Return the seconds of both in each round after the first, which warms the disk cache."""
    times = []
    for _ in range(rounds + 1):
        seconds = []
        for child in children:
            assert child.stdin
            assert child.stdout
            child.stdin.write(f"{folder}\n")
            child.stdin.flush()
            seconds.append(float(child.stdout.readline()))
        times.append((seconds[0], seconds[1]))
    return times[1:]


if __name__ == "__main__":
    main()
