"""Compare everything mode with segment_anything's generator in turn on parts of the grid.

A whole run of the stock takes minutes, so all peers are measured on the same 64 of the 32 × 32
points, different ones in every round, and the whole image is composed: encoder + 16 × the 64
points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from segment_anything import SamPredictor
from segment_anything.utils.amg import build_point_grid

from alps.masks.proposals import Proposer, Thresholds
from alps.sam.protocol import Embedding
from alps.sam.segmenter import SamSegmenter
from alps.structures import rle
from benchmarks.measure import Spread, console, cpu_seconds, ratio, show, stock_generator
from benchmarks.stages import STAGES, Stopwatch, without_encoder

BATCHES = (1, 2, 4, 8, 16, 32, 64)  # of the stock; 64 is its default
OURS = 32  # the default of `alps.masks.auto.AutoMasks`
SIDE = 32
PART = 64  # points measured at a time
PARTS = SIDE * SIDE // PART
#: The stock's own settings, which are ours too.
THRESHOLDS = Thresholds(
    pred_iou_thresh=0.88,
    stability_score_thresh=0.95,
    stability_score_offset=1.0,
    box_nms_thresh=0.7,
    min_area=0,
    max_area=float("inf"),
)


@dataclass(frozen=True, slots=True)
class Race:
    """Everything mode on one image, composed of encoder and parts; seconds per round."""

    seconds: dict[str, list[float]]
    stages: dict[str, dict[str, float]]
    best: str  # the stock's best batch

    @property
    def stock(self) -> str:
        """The stock at its default batch size."""
        return f"stock, batch {BATCHES[-1]}"


def everything_ours(
    segmenter: SamSegmenter, embedding: Embedding, points: Float[np.ndarray, "P 2"], fast: bool
) -> list[bytes]:
    """Return masks of some points of the grid, as `AutoMasks` makes them for a single tile."""
    height, width = embedding.size
    propose = Proposer(
        segmenter,
        embedding,
        (points * (width, height)).astype(np.float32),
        points_per_batch=OURS,
        thresholds=THRESHOLDS,
        fast=fast,
    )
    return [rle.encode_window(p.window, p.box[0], p.box[1], embedding.size) for p in propose()]


def race(
    segmenter: SamSegmenter,
    watches: Mapping[str, Stopwatch],
    name: str,
    image: UInt8[np.ndarray, "H W 3"],
    rounds: int,
    batches: tuple[int, ...] = BATCHES,
) -> Race:
    """Run all batch sizes of the stock in the first round, then its default, its best, and ALPS."""
    predictor = SamPredictor(segmenter.model)
    embedding = segmenter.embed(image)
    with torch.no_grad():
        encoder = [cpu_seconds(lambda: predictor.set_image(image))[1] for _ in range(rounds + 1)]
        features = embedding.features[None]
        exact = segmenter.decoders[0]
        prepare = [cpu_seconds(lambda: exact.prepare(features))[1] for _ in range(rounds)]
    grid = np.random.default_rng(0).permutation(build_point_grid(SIDE))
    everything_ours(segmenter, embedding, grid[:8], False)  # both warm up
    everything_ours(segmenter, embedding, grid[:8], True)

    seconds: dict[str, list[float]] = {}
    stages: dict[str, list[dict[str, float]]] = {}
    found: dict[str, list[int]] = {}
    for index in range(rounds):
        points = grid[PART * index : PART * (index + 1)]
        peers: dict[str, Callable[[], Any]] = {
            "ours, exact": lambda p=points: everything_ours(segmenter, embedding, p, False),
            "ours, fast": lambda p=points: everything_ours(segmenter, embedding, p, True),
        }
        for batch in batches:
            generator = stock_generator(segmenter.model, points, batch)
            generator = without_encoder(generator, embedding)
            peers[f"stock, batch {batch}"] = lambda g=generator: g.generate(image)
        names = list(peers) if index % 2 == 0 else list(peers)[::-1]
        for peer in names:
            watch = watches.get(peer, watches["stock"])
            watch.seconds.clear()
            masks, spent = cpu_seconds(peers[peer])
            before = encoder[index + 1] + (prepare[index] if peer.startswith("ours") else 0)
            seconds.setdefault(peer, []).append(before + PARTS * spent)
            found.setdefault(peer, []).append(len(masks))
            scaled = {stage: PARTS * value for stage, value in watch.lap(spent).items()}
            stages.setdefault(peer, []).append({STAGES[0]: before, **scaled})
        if index == 0:
            best = min(batches, key=lambda b: seconds[f"stock, batch {b}"][0])
            batches = tuple({best, BATCHES[-1]})
    console.print(
        f"{name} {image.shape[1]} x {image.shape[0]}: encoder {Spread.of(encoder[1:])} s, "
        f"preparing {Spread.of(prepare)} s, masks of {PART} points {found}"
    )
    middle = {
        peer: {s: float(np.median([lap[s] for lap in laps])) for s in STAGES}
        for peer, laps in stages.items()
    }
    return Race(seconds, middle, f"stock, batch {best}")


def show_race(name: str, result: Race) -> None:
    """Print the ratios to the stock, by round."""
    seconds = result.seconds
    stock = seconds[result.stock]
    rows = []
    for peer, times in sorted(seconds.items(), key=lambda item: -np.median(item[1])):
        of_best = seconds[result.best]
        rows.append(
            [
                peer,
                len(times),
                Spread.of(times),
                ratio(stock[: len(times)], times),
                ratio(of_best[: len(times)], times),
            ]
        )
    show(
        f"{name}: all masks of {SIDE} x {SIDE} points, composed",
        ["", "rounds", "CPU s", "x batch 64", f"x best ({result.best.split(', ')[1]})"],
        rows,
    )
    show(
        f"{name}: where the seconds go",
        ["", *STAGES],
        [
            [peer, *(f"{result.stages[peer][s]:.1f}" for s in STAGES)]
            for peer in (result.stock, result.best, "ours, exact", "ours, fast")
        ],
    )
