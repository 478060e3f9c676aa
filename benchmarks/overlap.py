"""Measure how the stages of labelling overlap, whether memory stays flat, and two processes.

python -m benchmarks.overlap [--images 600] [--patches 16] [--data DIR] [--markdown FILE]

Measures wall time, so run it on an idle machine.

1. drawn images whose three stages sleep for 40, 60 and 80 ms: one after the other, and overlapped
2. peak memory of every hundred drawn images of 1024 px with a fake SAM, by the slowest stage
3. label.py on patches of Potsdam, from its start: one process, and two
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from alps.features.shape import ShapeFeatures
from alps.labelling.image_stages import Image, ImageStages
from alps.labelling.stages import finish_in_order, read_ahead
from alps.labelling.timings import Timings
from alps.masks.auto import AutoMasks
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord, Sample
from benchmarks.fake import FakeSegmenter
from benchmarks.measure import TitledTable, arguments, one_thread, report
from benchmarks.process import peak_memory, run
from benchmarks.slow import SlowImages

READ, DEVICE, FINISH = 0.04, 0.06, 0.08  # seconds
SLEEPING = 64  # images whose stages sleep


@dataclass(frozen=True, kw_only=True)
class SlowMasks(AutoMasks):
    """`AutoMasks` that take longer on the device."""

    pause: float

    def segment(self, sample: Sample) -> Masks:
        """Wait, then make the masks."""
        time.sleep(self.pause)
        return AutoMasks.segment(self, sample)


@dataclass(frozen=True, kw_only=True)
class SlowFeatures(ShapeFeatures):
    """`ShapeFeatures` that take longer."""

    pause: float

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Wait, then compute the features."""
        time.sleep(self.pause)
        return ShapeFeatures.__call__(self, sample, masks)


class LargeImages(SlowImages):
    """`SlowImages` of 1024 px."""

    def read(self, record: ImageRecord) -> Sample:
        """Draw an image and enlarge it eightfold."""
        sample = SlowImages.read(self, record)
        return replace(sample, image=sample.image.repeat(8, 0).repeat(8, 1))


def build(images: SlowImages, device: float, finish: float) -> ImageStages:
    """Return stages with pauses of ``device`` and ``finish`` seconds."""
    masks = SlowMasks(segmenter=FakeSegmenter(), points_per_side=4, ground=0, pause=device)
    features = SlowFeatures(pause=finish)
    return ImageStages(image_set=images, masks=masks, features=features, stored=None)


def in_turn(stages: ImageStages) -> Iterator[Image]:
    """Yield the finished images; each is finished before the next is read."""
    groups = ([stages.read(record)] for record in stages.image_set.records())
    yield from map(stages.finish, stages.segment(groups, Timings()))


def overlapped(stages: ImageStages, threads: int) -> Iterator[Image]:
    """Yield the finished images, as `alps.labelling.shard.label_shard` makes them."""

    def pixels(image: Image) -> int:
        return image.pixels

    groups = read_ahead(stages.read, stages.image_set.records(), pixels=pixels)
    images = stages.segment(groups, Timings())
    yield from finish_in_order(stages.finish, images, pixels=pixels, threads=threads)


def compare_stages() -> TitledTable:
    """Measure the wall time per image if all three stages sleep."""
    stages = build(SlowImages(SLEEPING, pause=READ), DEVICE, FINISH)
    peers = {
        "one after the other": (lambda: in_turn(stages), READ + DEVICE + FINISH),
        "overlapped, 1 thread": (lambda: overlapped(stages, 1), max(READ, DEVICE, FINISH)),
        "overlapped, 2 threads": (lambda: overlapped(stages, 2), max(READ, DEVICE, FINISH / 2)),
    }
    rows = []
    for name, (images, least) in peers.items():
        start = time.perf_counter()
        n = sum(1 for _ in images())
        ms = 1000 * (time.perf_counter() - start) / n
        rows.append([name, f"{ms:.1f}", f"{1000 * least:.0f}"])
    return "Stages of 40, 60 and 80 ms", ["", "ms an image", "sleep alone"], rows


def watch_memory(n: int) -> TitledTable:
    """Measure the peak memory of every hundred images, with each stage the slowest in turn."""
    rows = []
    for i, slowest in enumerate(("read", "device", "finish")):
        read, device, finish = 0.05 * np.eye(3)[i]
        stages = build(LargeImages(n, pause=read), device, finish)
        peaks = []
        for done, _ in enumerate(tqdm(overlapped(stages, 2), slowest, n), start=1):
            if done % 100 == 0:
                peaks.append(f"{peak_memory():.0f}")
                Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        rows.append([slowest, *peaks])
    columns = ["", *(f"to {i}" for i in range(100, n + 1, 100))]
    return "Peak memory by slowest stage, MiB", columns, rows


def compare_processes(patches: Path, n: int, folder: Path) -> TitledTable:
    """Label patches of Potsdam, including the start of the program."""
    images = folder / "patches"
    images.mkdir()
    for path in sorted(patches.glob("*.png"))[:n]:
        (images / path.name).symlink_to(path.resolve())
    rows = []
    for processes, threads in ((1, 1), (1, 2), (2, 1)):
        start = time.perf_counter()
        cost = run(
            *("label.py", "+dataset=folder", "dataset.name=patches", f"dataset.root={images}"),
            *(f"store={folder / f'{processes}x{threads}'}", "masks.points_per_side=8"),
            *("assign.k=8", f"engine.processes={processes}", f"engine.threads={threads}"),
        )
        wall = time.perf_counter() - start
        used = cost.cpu / (wall * len(os.sched_getaffinity(0)))
        name = f"processes={processes}, threads={threads}"
        rows.append([name, f"{wall:.1f}", f"{n / wall:.3f}", f"{cost.cpu:.1f}", f"{used:.0%}"])
    columns = ["", "wall s", "images/s", "CPU s", "of all cores"]
    return f"label.py on {n} patches, 8 x 8 points", columns, rows


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--images", type=int, default=600, help="to watch the memory of")
    parser.add_argument("--patches", type=int, default=16, help="to label in processes")
    parser.add_argument("--markdown", type=Path, help="write the tables there, too")
    args = parser.parse_args()
    one_thread()
    tables = [compare_stages(), watch_memory(args.images)]
    with tempfile.TemporaryDirectory() as folder:
        patches = args.data / "potsdam224/img_dir/val"
        tables.append(compare_processes(patches, args.patches, Path(folder)))
    report(tables, args.markdown)


if __name__ == "__main__":
    main()
