"""Measure whole, uncomposed runs of everything mode: seconds and agreement of the masks."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from segment_anything.utils.amg import build_point_grid

from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.sam.segmenter import SamSegmenter
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.agreement import Agreement, run_lengths
from benchmarks.measure import cpu_seconds, show, stock_generator
from benchmarks.race import BATCHES, SIDE

Image = UInt8[np.ndarray, "H W 3"]


def run_whole(image: Image, *, device: str, fast: bool, threads: int) -> tuple[Masks, float, float]:
    """Return the masks of all points, with CPU and wall seconds, after loading the weights."""
    segmenter = SamSegmenter("mobile", device=device)
    _ = segmenter.decoders
    torch.set_num_threads(threads)  # of the encoder
    source = AutoMasks(segmenter=segmenter, fast=fast, threads=threads, **SAM_SETTINGS)
    if device != "cpu":  # the first image on a GPU takes longer
        source(Sample("image", image))
        segmenter.forget()
    start = time.perf_counter()
    masks, spent = cpu_seconds(lambda: source(Sample("image", image)))
    wall = time.perf_counter() - start
    torch.set_num_threads(1)
    return masks, spent, wall


def run_stock(
    segmenter: SamSegmenter, name: str, image: Image, batch: int, args: argparse.Namespace
) -> dict[str, Any] | None:
    """Return the stock's whole run: a cached one, or a new one if requested, else None."""
    kept = args.keep / f"{name}_batch{batch}.json" if args.keep else None
    if kept is not None and kept.is_file():
        return {"kept": True, **json.loads(kept.read_text())}
    if not args.full:
        return None
    generator = stock_generator(segmenter.model, build_point_grid(SIDE), batch)
    masks, spent = cpu_seconds(lambda: generator.generate(image))
    record = {"masks": masks, "cpu": spent}
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(record))
    return {"kept": False, **record}


def show_whole(
    segmenter: SamSegmenter, name: str, image: Image, best: int, two: bool, args: argparse.Namespace
) -> None:
    """Print whole runs of ALPS, compared with the masks of the stock."""
    stocks = {b: run_stock(segmenter, name, image, b, args) for b in {best, BATCHES[-1]}}
    rows = [
        [
            f"stock, batch {b}" + (", kept" if run["kept"] else ""),
            1,
            f"{run['cpu']:.1f}",
            "",
            len(run["masks"]),
            "",
        ]
        for b, run in stocks.items()
        if run
    ]
    reference = stocks[BATCHES[-1]] or stocks[best]
    for fast in (False, True):
        for threads in (1, 2) if two and not fast else (1,):
            masks, spent, wall = run_whole(image, device=args.device, fast=fast, threads=threads)
            agreement = ""
            if reference:
                found = Agreement.of(run_lengths(reference["masks"]), masks)
                agreement = f"{found.mean:.5f}, {found.least:.4f}"
            way = "fast" if fast else "exact"
            cells = [f"ours, {way}", threads, f"{spent:.1f}", f"{wall:.1f}", len(masks), agreement]
            rows.append(cells)
    show(
        f"{name}: whole runs (load {os.getloadavg()[0]:.1f})",
        ["", "threads", "CPU s", "wall s", "masks", "IoU with the stock's: mean, least"],
        rows,
    )
