"""Compare masks per second from box prompts with SamPredictor, without the encoder.

python -m benchmarks.boxes
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from alps.sam.load import load_segmenter
from alps.sam.patch import Patch
from alps.sam.protocol import Embedding
from alps.sam.segmenter import SamSegmenter
from alps.sam.upsample import Axis
from benchmarks.measure import (
    MARINA_X,
    MARINA_Y,
    Spread,
    arguments,
    interleave,
    load_images,
    one_thread,
    ratio,
    show,
)
from benchmarks.stages import EmbeddedPredictor

STOCK = (1, 4, 20, 64)  # SAMRS takes 20
OURS = 32
Window = tuple[tuple[int, int, int, int], Bool[Tensor, "h w"]] | None


def load_boxes(data: Path, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "N 4"]:
    """Return 500 boats of P0706 inside the crop, or random boxes of 20 to 120 px without DOTA."""
    file = data / "dota/labelTxt/P0706.txt"
    if not file.is_file():
        rng = np.random.default_rng(0)
        low = rng.uniform(0, np.array(image.shape[1::-1]) - 120, (500, 2))
        return np.hstack([low, low + rng.uniform(20, 120, (500, 2))]).astype(np.float32)
    lines = [line.split() for line in file.read_text().splitlines()]
    quads = np.array([line[:8] for line in lines if len(line) >= 9], np.float32).reshape(-1, 4, 2)
    quads -= np.array([MARINA_X, MARINA_Y], np.float32)
    boxes = np.hstack([quads.min(1), quads.max(1)])
    inside = (boxes >= 0).all(1) & (boxes <= 1024).all(1)
    return np.asarray(boxes[inside][:500])


def predict_ours(
    segmenter: SamSegmenter, embedding: Embedding, boxes: Float32[np.ndarray, "N 4"], fast: bool
) -> list[Window]:
    """Return each mask inside its bounding box."""
    rows, cols = (
        Axis(embedding.low_res, max(embedding.input_size), used, pixels)
        for used, pixels in zip(embedding.input_size, embedding.size, strict=True)
    )
    windows: list[Window] = []
    for start in range(0, len(boxes), OURS):
        found = segmenter.predict(
            embedding, boxes=boxes[start : start + OURS], multimask_output=False, fast=fast
        )
        for logits in found.logits:
            patch = Patch.cut(logits, 0.0, rows, cols)
            box = patch.box() if patch else None
            windows.append((box, patch.window(box)) if patch and box else None)
    return windows


def predict_stock(
    predictor: EmbeddedPredictor, boxes: Float32[np.ndarray, "N 4"], batch: int
) -> Bool[Tensor, "N H W"]:
    """Return the masks of SamPredictor, each at the size of the image."""
    xyxy = predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), predictor.embedding.size)
    masks = [
        predictor.predict_torch(None, None, boxes=part, multimask_output=False)[0][:, 0]
        for part in xyxy.split(batch)
    ]
    return torch.cat(masks)


def window_iou(window: Window, mask: Bool[Tensor, "H W"]) -> float:
    """Return the IoU of a mask inside its box and one at image size; 1 if both are empty."""
    whole = torch.zeros_like(mask)
    if window is not None:
        (x0, y0, x1, y1), inside = window
        whole[y0:y1, x0:x1] = inside
    union = int((whole | mask).sum())
    return int((whole & mask).sum()) / union if union else 1.0


@torch.inference_mode()
def compare(
    segmenter: SamSegmenter, data: Path, image: UInt8[np.ndarray, "H W 3"], rounds: int, each: int
) -> None:
    """Print the table; every round uses other boxes."""
    embedding = segmenter.embed(image)
    predictor = EmbeddedPredictor(segmenter.model, embedding)
    boxes = load_boxes(data, image)
    seconds: dict[str, list[float]] = {}
    ious: dict[str, list[float]] = {"ours, exact": [], "ours, fast": []}
    order = np.random.default_rng(0).permutation(len(boxes))
    for index in range(rounds):
        part = boxes[order[each * index : each * (index + 1)]]
        peers: dict[str, Callable[[], object]] = {
            "ours, exact": lambda part=part: predict_ours(segmenter, embedding, part, False),
            "ours, fast": lambda part=part: predict_ours(segmenter, embedding, part, True),
        } | {
            f"stock, batch {batch}": lambda part=part, batch=batch: predict_stock(
                predictor, part, batch
            )
            for batch in STOCK
        }
        results, spent = interleave(peers, 1)
        for name, found in ious.items():
            pairs = zip(results[name], results["stock, batch 20"], strict=True)
            found += [window_iou(window, mask) for window, mask in pairs]
        for name, of_round in spent.items():
            seconds.setdefault(name, []).append(of_round[0] / len(part))
    rows = [
        [
            name,
            Spread.of(1000 * np.array(times)),
            Spread.of(1 / np.array(times)),
            *(ratio(times, seconds[ours]) for ours in ious),
            f"{np.mean(ious[name]):.5f}, {min(ious[name]):.4f}" if name in ious else "",
        ]
        for name, times in seconds.items()
    ]
    show(
        f"box prompts, {rounds} x {each} of {len(boxes)} boxes, encoder excluded",
        ["", "CPU ms a box", "masks/s", "x exact", "x fast", "IoU mean, least"],
        rows,
    )


def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    images = load_images(args.data)
    image = next(iter(images.values()))
    rounds, each = (5, 100) if args.full else (3, 48)
    compare(load_segmenter("mobile", device="cpu"), args.data, image, rounds, each)


if __name__ == "__main__":
    main()
