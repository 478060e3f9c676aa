"""Measure each stage of labelling; benchmarks.pipeline starts this for each number of images.

python -m benchmarks.growth STORE --drawn 100
python -m benchmarks.growth STORE [SETTING...] --images DIR

The default recipe of label.py on a folder of images; or a fake SAM on drawn images with real
features (colours), k-means, store, index maps and report. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from alps.assign.cluster import Cluster
from alps.features.shape import ShapeFeatures
from alps.images.plain.folder import Folder
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.labelling.timings import Timings
from alps.masks.auto import AutoMasks
from alps.store.counts import count
from benchmarks.fake import DrawnImages, FakeSegmenter
from benchmarks.measure import one_thread
from benchmarks.process import ROOT, peak_memory, run

STAGES = ("masks", "features", "clusters", "labels", "report", "manifest")
#: What no stage counts: listing, reading and writing.
REST = "the rest"
Table = tuple[list[str], list[list[str]]]


@dataclass(slots=True)
class StageCosts(Timings):
    """CPU seconds of a thread instead of wall time, and the peak memory after each stage."""

    peaks: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str, images: int = 0) -> Iterator[None]:
        """Add the CPU time of a block to a stage."""
        start = time.thread_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.thread_time() - start
        self.images[stage] = self.images.get(stage, 0) + images
        self.peaks[stage] = peak_memory()

    def add(self, other: Timings) -> None:
        """Add the costs of a shard."""
        Timings.add(self, other)
        if isinstance(other, StageCosts):
            self.peaks.update(other.peaks)


def grow(*arguments: str | Path) -> Mapping[str, Any]:
    """Label in a separate process and return what it printed."""
    found: Mapping[str, Any] = json.loads(run("-m", "benchmarks.growth", *arguments).output)
    return found


def tabulate(runs: Sequence[Mapping[str, Any]]) -> dict[str, Table]:
    """Return columns and rows by title: CPU time and memory, one row per number of images."""
    costs, peaks = [], []
    for found in runs:
        n, seconds = found["images"], found["seconds"]
        each = [1000 * seconds[stage] / n for stage in (*STAGES, REST)]
        spent = [f"{ms:.1f}" for ms in (sum(each), *each)]
        costs.append([f"{n:,}", f"{found['masks']:,}", *spent, f"{found['start']:.1f}"])
        peaks.append([f"{n:,}", *(f"{mib:.0f}" for mib in found["peaks"].values())])
    return {
        "CPU ms an image": (["images", "masks", "all", *STAGES, REST, "start-up, s"], costs),
        "Peak memory so far when a stage ends, MiB": (["images", *runs[0]["peaks"]], peaks),
    }


def real_parts(images: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Return what label.py builds, with SAM loaded."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", ["engine.threads=1", *settings])
    _ = instantiate(cfg.sam).decoders
    parts = {part: instantiate(cfg[part]) for part in ("masks", "features", "assign")}
    return {"image_set": Folder(str(images), "patches"), **parts}


def fake_parts(n: int) -> dict[str, Any]:
    """Return the same parts with a fake SAM."""
    return {
        "image_set": DrawnImages(n),
        "masks": AutoMasks(segmenter=FakeSegmenter(), points_per_side=4, ground=0),
        "features": ShapeFeatures(),
        "assign": Cluster(weight="none"),
    }


def measure_label(store_root: Path, **parts: Any) -> dict[str, Any]:
    """Label in this process, on one thread, and return the costs of the stages.

    Args:
        store_root: folder of the store.
        parts: image_set, masks, features and assign.

    Returns:
        The numbers of images and masks, CPU seconds before and in each stage, and the peak memory
        after each stage in MiB.
    """
    start, before = time.process_time(), peak_memory()
    with (
        patch("alps.labelling.pipeline.Timings", StageCosts),
        patch("alps.labelling.shard.Timings", StageCosts),
        patch("alps.labelling.objects.Timings", StageCosts),
        patch("alps.labelling.image_stages.Timings", StageCosts),
    ):
        store, costs = label(
            **parts, engine=LocalEngine(threads=1), root=store_root, name="grown", config=""
        )
    spent = time.process_time() - start
    assert isinstance(costs, StageCosts)
    counts = count(store)
    return {
        "images": counts.ok + counts.empty,
        "masks": counts.masks,
        "start": start,
        "seconds": costs.seconds | {REST: spent - sum(costs.seconds.values())},
        "peaks": {"start-up": before, **costs.peaks},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("settings", nargs="*", help="of label.py, for a folder")
    parser.add_argument("--images", type=Path, help="folder of images")
    parser.add_argument("--drawn", type=int, default=100, help="how many, without a folder")
    args = parser.parse_args()
    one_thread()
    parts = real_parts(args.images, args.settings) if args.images else fake_parts(args.drawn)
    print(json.dumps(measure_label(args.store, **parts)))


if __name__ == "__main__":
    main()
