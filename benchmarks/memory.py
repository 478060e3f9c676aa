"""Measure peak memory above that of the model; benchmarks.sam starts this once per peer.

The kernel's high-water mark of resident memory is reset when the model is loaded, so the result is
what encoding and decoding add. (``ru_maxrss`` cannot be used: a child inherits its parent's value.)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from segment_anything.utils.amg import build_point_grid

from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.sam.load import load_segmenter
from alps.structures.records import Sample
from benchmarks.measure import load_images, one_thread, stock_generator

PEERS = ("64", "1", "exact")  # the stock at a batch, or ours


def peak_memory(data: Path, image: str, peer: str) -> float:
    """Return the MiB above the loaded model, measured in a separate process."""
    command = [sys.executable, "-m", "benchmarks.memory", str(data), image, peer]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("image")
    parser.add_argument("peer", choices=PEERS)
    args = parser.parse_args()
    one_thread()
    segmenter = load_segmenter("mobile", device="cpu")
    image = load_images(args.data)[args.image]
    _ = segmenter.decoders
    Path("/proc/self/clear_refs").write_text("5")  # the mark falls to what is resident now
    before = resident("VmRSS")
    if args.peer.isdigit():
        # One batch of 64 points: the stock keeps only run lengths of a batch that is done.
        points = np.random.default_rng(0).permutation(build_point_grid(32))[:64]
        stock_generator(segmenter.model, points, int(args.peer)).generate(image)
    else:
        AutoMasks(segmenter=segmenter, **SAM_SETTINGS)(Sample("image", image))
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
