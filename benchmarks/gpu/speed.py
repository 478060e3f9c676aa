"""Seconds per image of segment_anything's generator and of each of our mask sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from jaxtyping import UInt8
from segment_anything.utils.amg import build_point_grid

from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.masks.box import BoxMasks
from alps.pretrained.cache import cache_folder
from alps.pretrained.catalog import WEIGHTS
from alps.protocols import MaskSource
from alps.sam.build import build_sam
from alps.sam.segmenter import SamSegmenter
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.records import Sample
from benchmarks.gpu.findings import Check, Finding, Skipped, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.measure import Spread, interleave, ratio, stock_generator

ARCHITECTURES = ("mobile", "vit_h")
#: Points per batch of the stock generator; the first is its default.
BATCHES, SMALL_BATCHES = (64, 128, 256), (64, 4)
BOX_SIDE = 40  # px


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Yield a table for each network."""
    for architecture in ARCHITECTURES:
        if inputs.small and architecture != "mobile":
            yield Skipped(f"{architecture} on a CPU, where it takes minutes")
        else:
            yield from race(architecture, inputs)


def race(architecture: str, inputs: Inputs) -> Iterator[Finding]:
    """Run all ways in turn on one image, after a round that warms up."""
    side, n, rounds = (2, 4, 1) if inputs.small else (32, 64, 3)
    batches = SMALL_BATCHES if inputs.small else BATCHES
    segmenter, trained = load(architecture, inputs.device)
    sample = with_boxes(inputs.images(1)[0], n)
    peers = {
        **{f"segment_anything, batch {b}": stock(segmenter, side, b) for b in batches},
        **{name: ours(segmenter, make(segmenter, side)) for name, make in SOURCES.items()},
        "encoder alone": ours(segmenter, lambda s: segmenter.embed(s.image)),
        "encoder alone, bfloat16": encoder_in_bfloat16(segmenter),
    }
    calls = {name: partial(peer, sample) for name, peer in peers.items()}
    interleave(calls, 1)
    seconds = interleave(calls, rounds)[1]
    best = min(batches, key=lambda b: np.median(seconds[f"segment_anything, batch {b}"]))
    of_default, of_best = (seconds[f"segment_anything, batch {b}"] for b in (batches[0], best))
    weights = "" if trained else ", random weights, which give no masks"
    yield Table(
        f"{architecture}{weights}: one image of {sample.size[1]} px, {side} x {side} points or "
        f"{n} boxes, {rounds} rounds",
        ["", "CPU s" if inputs.on_cpu else "s", f"x batch {batches[0]}", f"x best (batch {best})"],
        [
            [name, Spread.of(spent), ratio(of_default, spent), ratio(of_best, spent)]
            for name, spent in seconds.items()
        ],
    )
    yield Check(f"{architecture}: all {len(peers)} ways ran", len(seconds) == len(peers))
    if not inputs.small:
        gain = ratio(of_best, seconds["exact"]).median
        yield Check(f"{architecture}: exact is {gain:.1f} times as fast as the stock", gain > 1)


def load(architecture: str, device: str) -> tuple[SamSegmenter, bool]:
    """Return a loaded network, and whether its weights are there; otherwise they are random."""
    segmenter = SamSegmenter(architecture, device=device)
    if (cache_folder() / "weights" / WEIGHTS[architecture].file_name).is_file():
        segmenter.load()
        return segmenter, True
    state = build_sam(architecture).state_dict()
    with patch("alps.sam.segmenter.load_weights", lambda _: state):
        segmenter.load()
    return segmenter, False


def stock(segmenter: SamSegmenter, side: int, batch: int) -> Callable[[Sample], Any]:
    """Return segment_anything's generator with the same network."""
    generator = stock_generator(segmenter.model, build_point_grid(side), batch)
    return lambda sample: generator.generate(sample.image)


def ours(segmenter: SamSegmenter, source: Callable[[Sample], Any]) -> Callable[[Sample], Any]:
    """Return a function that encodes the image anew."""

    def run(sample: Sample) -> Any:
        segmenter.forget()
        return source(sample)

    return run


def encoder_in_bfloat16(segmenter: SamSegmenter) -> Callable[[Sample], Any]:
    """Return the encoder of the same network in bfloat16."""
    rounded = SamSegmenter(segmenter.architecture, device=segmenter.device.type, dtype="bfloat16")
    rounded.model = segmenter.model
    return ours(rounded, lambda sample: rounded.embed(sample.image))


def with_boxes(image: UInt8[np.ndarray, "H W 3"], n: int) -> Sample:
    """Return the image with ``n`` boxes at random places."""
    size = image.shape[:2]
    corners = np.random.default_rng(0).uniform(0, min(size) - BOX_SIDE, (n, 2))
    annotations = [
        Annotation(f"{i}", "thing", (x, y, x + BOX_SIDE, y + BOX_SIDE))
        for i, (x, y) in enumerate(corners.tolist())
    ]
    boxes, _ = check_boxes(annotations, {"thing": 0}, size)
    return Sample("image", image, boxes)


def automatic(**options: Any) -> Callable[[SamSegmenter, int], MaskSource]:
    """Return a function of a network and the points per side, which builds automatic masks."""
    return lambda segmenter, side: AutoMasks(
        segmenter=segmenter, points_per_side=side, **SAM_SETTINGS, **options
    )


SOURCES: dict[str, Callable[[SamSegmenter, int], MaskSource]] = {
    "exact": automatic(),
    "fast": automatic(fast=True),
    "screened": automatic(screen=True),
    "boxes": lambda segmenter, _: BoxMasks(segmenter=segmenter),
}
