"""Measure the cost of the arithmetic alone: multiply-adds and the machine's rate for them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from segment_anything.utils.amg import build_point_grid
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from alps.sam.segmenter import SamSegmenter
from benchmarks.measure import show
from benchmarks.race import PART, PARTS, SIDE, THRESHOLDS, Race
from benchmarks.stages import STAGES

aten: Any = torch.ops.aten
#: torch's counts, and the same for the products in place, which its own counter passes over.
COUNTS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.addmm_: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
}


class Operations(TorchDispatchMode):
    """Count operations of matrix products, convolutions and attentions by number type."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count it."""
        out = func(*args, **(kwargs or {}))
        count = COUNTS.get(func._overloadpacket)
        if count is not None:
            self.count[args[0].dtype] += count(*args, **(kwargs or {}), out_val=out)
        return out


def operations(work: Callable[[], object]) -> Counter[torch.dtype]:
    """Count the operations of a call; a multiply-add is two."""
    with torch.no_grad(), Operations() as counted:
        work()
    return counted.count


def matrix_rate(dtype: torch.dtype, side: int = 1024, rounds: int = 30) -> float:
    """Return the operations per CPU second of a product of two square matrices, best of several."""
    a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        a @ b
        seconds.append(time.process_time() - start)
    return 2 * side**3 / min(seconds)


def show_floor(
    segmenter: SamSegmenter, image: UInt8[np.ndarray, "H W 3"], result: Race
) -> dict[str, float]:
    """Print times of the matrix products alone and measured times; return the former for ALPS."""
    rates = {dtype: matrix_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    embedding = segmenter.embed(image)
    height, width = embedding.size
    points = np.random.default_rng(0).permutation(build_point_grid(SIDE))[:PART]
    xy = torch.from_numpy((points * (width, height)).astype(np.float32))
    xy = xy * (max(embedding.input_size) / max(embedding.size))
    prompts = xy[:, None], torch.ones(PART, 1, dtype=torch.int)
    pixels = torch.zeros(1, 3, 1024, 1024)
    features = embedding.features[None].clone()
    rows, floors = [], {}

    def row(way: str, part: str, times: int, work: Callable[[], object], measured: float) -> None:
        count = operations(work)
        floor = sum(times * n / rates[dtype] for dtype, n in count.items())
        floors[f"{way} {part}"] = floor
        giga = " + ".join(
            f"{times * n / 1e9:.0f} {str(dtype).removeprefix('torch.')}"
            for dtype, n in sorted(count.items(), key=lambda item: -item[1])
        )
        rows.append([f"{way}: {part}", giga, f"{floor:.2f}", f"{measured:.2f}",
                     f"{floor / measured:.0%}"])  # fmt: skip

    stages = result.stages
    row("both", "encoder", 1, lambda: segmenter.model.image_encoder(pixels),
        stages[result.best]["encoder"])  # fmt: skip
    sparse, dense = segmenter.model.prompt_encoder(points=prompts, boxes=None, masks=None)
    row("stock", "mask decoder", PARTS, lambda: segmenter.model.mask_decoder(
        image_embeddings=features, image_pe=segmenter.model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True),
        stages[result.best]["transformer"] + stages[result.best]["upscaling"])  # fmt: skip
    for decoder, way in zip(segmenter.decoders, ("exact", "fast"), strict=True):
        prepared = decoder.prepare(features)
        decoded = decoder.decode(prepared, points=prompts)
        keep = decoded.iou > THRESHOLDS.pred_iou_thresh
        own = stages[f"ours, {way}"]
        row(way, "transformer", PARTS, lambda d=decoder, p=prepared: d.decode(p, points=prompts),
            own["transformer"])  # fmt: skip
        row(way, "upscaling", PARTS, lambda d=decoder, o=decoded, k=keep: d.upscale(o, k),
            own["upscaling"])  # fmt: skip
        rows.append([f"{way}: {STAGES[3]}", "", "", f"{own[STAGES[3]]:.2f}", ""])
    show(
        f"the floor of {SIDE} x {SIDE} points: products of 1024 x 1024 matrices run at "
        f"{rates[torch.float32] / 1e9:.0f} GFLOP/s in float32, "
        f"{rates[torch.bfloat16] / 1e9:.0f} in bfloat16",
        ["", "GFLOP", "s at the floor", "CPU s", "of the floor's rate"],
        rows,
    )
    encoder = floors["both encoder"]
    return {
        f"floor, {way}": encoder + floors[f"{way} transformer"] + floors[f"{way} upscaling"]
        for way in ("exact", "fast")
    }
