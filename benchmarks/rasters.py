"""Measure labelling of rasters: size, kills, windows without data, reading and writing, tiles.

python -m benchmarks.rasters size kill nothing files tiles images --texture IMAGE --folder DIR
python -m benchmarks.rasters inputs --folder DIR

All rasters repeat one texture. The masks are those of a fake SAM, or cells of a grid where many
windows are required. Each run is a separate process with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import rasterio

from alps.assign.cluster import Cluster
from alps.features.shape import ShapeFeatures
from alps.images.geo.rasters import Rasters
from alps.images.plain.folder import Folder
from alps.masks.auto import AutoMasks
from benchmarks.fake import FakeSegmenter
from benchmarks.growth import measure_label
from benchmarks.measure import Spread, markdown, one_thread, ratio
from benchmarks.process import ROOT, run
from benchmarks.raster_files import compare_writing, window_of
from benchmarks.raster_inputs import compare_inputs
from benchmarks.raster_reading import compare_reading
from benchmarks.terrain import GridMasks, read_texture, write_raster

FULL, SPACING = 1024, 896  # side and distance of windows, px
#: What a killed run must make again with the same bytes.
COMPARED = ("masks", "features", "objects", "clusters", "labels", "ann")
#: A run is killed when this many files of a folder exist, after so many seconds.
KILLS = (("masks", 3, 0.0), ("objects", 3, 0.0), ("labels", 7, 1.0))


def parts_of(root: Path, masks: str) -> dict[str, Any]:
    """Return what labels a raster, a folder of rasters, or a folder ``images`` of images."""
    source = {
        "grid": GridMasks,
        "fake": lambda: AutoMasks(segmenter=FakeSegmenter(), points_per_side=8, ground=16),
    }[masks]
    is_folder = root.name == "images"
    return {
        "image_set": Folder(str(root), "images") if is_folder else Rasters(root=str(root)),
        "masks": source(),
        "features": ShapeFeatures(),
        "assign": Cluster(k=8, weight="none"),
        # A shard limits the number of windows in work, so small rasters need as many.
        "shard_size": 32,
    }


class Bench:
    """The measurements.

    Args:
        folder: folder for rasters and stores.
        texture: image file that the rasters repeat; None: only for `inputs`.
        sides: sides of the rasters whose memory is compared, px.
        rounds: number of rounds.
    """

    def __init__(self, folder: Path, texture: Path | None, sides: list[int], rounds: int) -> None:
        self.folder, self.sides, self.rounds = folder, sides, rounds
        self.texture = None if texture is None else read_texture(texture)

    def raster(self, name: str, side: int, **options: Any) -> Path:
        """Return a raster, written unless it exists."""
        path = self.folder / f"{name}.tif"
        if not path.exists():
            assert self.texture is not None  # checked by the parser
            path.parent.mkdir(parents=True, exist_ok=True)
            write_raster(path, self.texture, side=side, **options)
        return path

    def label(self, root: Path, masks: str) -> dict[str, Any]:
        """Label in a separate process; return the costs and the peak memory in MiB."""
        store = self.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        done = run("-m", "benchmarks.rasters", "label", root, store, masks)
        costs: dict[str, Any] = json.loads(done.output)
        return costs | {"cpu": sum(costs["seconds"].values()), "peak": done.peak}

    def size(self) -> str:
        """Compare rasters of different sizes: memory and CPU time per window."""
        rows = []
        for side in self.sides:
            costs = self.label(self.raster(f"side{side}/a", side), "grid")
            n, stages = costs["images"], costs["seconds"]
            each = [f"{1000 * seconds / n:.0f}" for seconds in (costs["cpu"], *stages.values())]
            rows.append(
                [f"{side:,}", f"{n:,}", f"{costs['masks']:,}", *each, f"{costs['peak']:.0f}"]
            )
        return markdown(["side, px", "windows", "masks", "all, ms", *stages, "peak, MiB"], rows)

    def kill(self) -> str:
        """Kill a run in each stage, resume it, and compare the bytes with an undisturbed run."""
        root = self.raster("side12000/a", 12_000)  # 196 windows in 7 shards
        self.label(root, "grid")
        expected, store = contents(self.folder / "store"), self.folder / "store"
        shutil.rmtree(store)
        rows = []
        command = [sys.executable, "-m", "benchmarks.rasters", "label", root, store, "grid"]
        for folder, n, pause in KILLS:
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
                while len([*(store / folder).glob("*.parquet")]) < n:
                    assert child.poll() is None, f"the run ended before {folder}/ had {n} files"
                    time.sleep(0.01)
                time.sleep(pause)
                os.kill(child.pid, signal.SIGKILL)
            files = [len([*(store / name).rglob("*.*")]) for name in COMPARED]
            rows.append([f"{folder}/ had {n} files", *files])
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        found = contents(store)
        other = [n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)]
        table = markdown(["killed when", *COMPARED], rows)
        return f"{table}\n{len(expected)} files, {len(other)} differ {sorted(other)[:5]}\n"

    def nothing(self) -> str:
        """Compare windows without data with full ones."""
        full, empty = self.raster("full/a", 3_600), self.raster("both/b", 8_000, empty=True)
        if not (empty.parent / "a.tif").exists():
            os.link(full, empty.parent / "a.tif")
        one, two = (self.label(path.parent, "fake") for path in (full, empty))
        rows = []
        n, more = one["images"], two["images"] - one["images"]
        for stage, seconds in (("all", one["cpu"]), *one["seconds"].items()):
            spent = two["cpu"] if stage == "all" else two["seconds"][stage]
            each = 1000 * (spent - seconds) / more
            rows.append([stage, f"{1000 * seconds / n:.0f}", f"{each:.1f}"])
        return markdown(["", "a full window, CPU ms", "one of nothing, CPU ms"], rows)

    def files(self) -> str:
        """Compare reading and writing with loops over rasterio's functions."""
        raster, rounds = self.raster("side6000/a", 6_000), max(self.rounds, 5)
        reading = compare_reading(raster, self.folder, rounds)
        return f"{reading}\n{compare_writing((6_000, 6_000), self.folder, rounds)}"

    def tiles(self) -> str:
        """Compare 8 rasters of 3,000 px with one of about as many windows."""
        for i in range(8):
            self.raster(f"tiles/{i}", 3_000, origin=(0, 3_000 * i))
        peers = {
            "8 tiles of 3,000 px": self.folder / "tiles",
            "1 raster of 9,984 px": self.raster("side9984/a", 10 * SPACING + FULL),
        }
        return self.compare(peers, ["grid"])

    def images(self) -> str:
        """Compare the windows of a raster with images of the same pixels."""
        raster, folder = self.raster("full/a", 3_600), self.folder / "images"
        folder.mkdir(exist_ok=True)
        with rasterio.open(raster) as file:
            for record in Rasters(root=str(raster)).records():
                pixels = file.read(window=window_of(record.window))
                path = folder / f"{record.image_id.replace('/', '_')}.tif"
                kind = {"driver": "GTiff", "dtype": "uint8", "photometric": "RGB"}
                with rasterio.open(path, "w", **kind, count=3, height=FULL, width=FULL) as image:
                    image.write(pixels)
        return self.compare({"images": folder, "windows": raster}, ["fake"])

    def inputs(self) -> str:
        """Compare the place and the no-data of index maps with those of many kinds of rasters."""
        shutil.rmtree(self.folder / "inputs", ignore_errors=True)
        return compare_inputs(self.folder / "inputs")

    def compare(self, roots: dict[str, Path], sources: list[str]) -> str:
        """Return a table of CPU ms per window of two image sets, by source of masks."""
        rows = []
        for masks in sources:
            found: dict[str, list[float]] = {name: [] for name in roots}
            for _ in range(self.rounds):
                for name, root in roots.items():
                    costs = self.label(root, masks)
                    found[name].append(1000 * costs["cpu"] / costs["images"])
            first, second = found.values()
            rows.append([masks, Spread.of(first), Spread.of(second), ratio(second, first)])
        return markdown(["masks", *roots, "second / first"], rows)


def contents(store: Path) -> dict[str, bytes]:
    """Return the content of the files that must be equal after a kill, by name."""
    files = (path for name in COMPARED for path in (store / name).rglob("*") if path.is_file())
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


def main() -> None:
    if sys.argv[1] == "label":
        one_thread()
        root, store, masks = sys.argv[2:]
        print(json.dumps(measure_label(Path(store), **parts_of(Path(root), masks))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("size", "kill", "nothing", "files", "tiles", "images", "inputs")
    parser.add_argument("measurements", nargs="+", choices=names)
    parser.add_argument("--texture", type=Path, help="an RGB image; not for inputs")
    parser.add_argument("--folder", type=Path, required=True, help="for rasters and stores")
    parser.add_argument("--side", type=int, nargs="+", default=[12_000, 40_000], help="px")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.texture is None and args.measurements != ["inputs"]:
        parser.error("all measurements except inputs need --texture")
    bench = Bench(args.folder, args.texture, args.side, args.rounds)
    for name in args.measurements:
        print(f"{name}\n\n{getattr(bench, name)()}", flush=True)


if __name__ == "__main__":
    main()
