"""Compare the computation of features for a hundred masks of one tile.

python -m benchmarks.pooling

The reference method upsamples the 256 × 64 × 64 features to the size of the masks, multiplies, sums
and divides. It handles a gigabyte and takes seconds per mask, so it runs on a few masks and is
scaled to 100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from alps.features.sam import SamFeatures
from alps.masks.auto import AutoMasks
from alps.sam.load import load_segmenter
from alps.sam.protocol import Embedding
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.measure import (
    Spread,
    arguments,
    cpu_seconds,
    load_images,
    one_thread,
    ratio,
    show,
)

MASKS = 100


def lift(features: Float[Tensor, "C h w"], size: tuple[int, int]) -> Float[Tensor, "C H W"]:
    """Upsample the features to every pixel; a gigabyte at 1024 x 1024 px."""
    return F.interpolate(features[None], size, mode="bilinear", align_corners=False)[0]


def mean_inside(
    lifted: Float[Tensor, "C H W"], masks: Sequence[Bool[np.ndarray, "H W"]]
) -> Float32[np.ndarray, "n C"]:
    """Compute the reference: multiply with each mask, sum, divide by its area."""
    inside = [torch.from_numpy(mask).to(lifted.dtype) for mask in masks]
    return torch.stack([(lifted * mask).sum((1, 2)) / mask.sum() for mask in inside]).numpy()


def pool_small(embedding: Embedding, masks: Masks) -> Float32[np.ndarray, "N C"]:
    """Compute an approximation: the masks averaged down to the cells of the features."""
    dense = torch.from_numpy(masks.to_array()).float()[:, None]
    cells = F.interpolate(dense, embedding.features.shape[-2:], mode="area").flatten(1)
    sums = cells @ embedding.features.flatten(1).T
    return (sums / cells.sum(1, keepdim=True)).numpy()


def cosine(a: Float[np.ndarray, "N C"], b: Float[np.ndarray, "N C"]) -> Float[np.ndarray, " N"]:
    """Return the cosine of each pair of rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / norms)


@torch.inference_mode()
def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    segmenter = load_segmenter("mobile", device="cpu")
    image = next(iter(load_images(args.data).values()))
    side = min(image.shape[:2])  # square, so that no feature is padding
    sample = Sample("image", np.ascontiguousarray(image[:side, :side]))
    loose = AutoMasks(
        segmenter=segmenter,
        points_per_side=16,
        pred_iou_thresh=0.7,
        stability_score_thresh=0.8,
        box_nms_thresh=0.9,
    )
    masks = loose(sample)[:MASKS]
    embedding = segmenter.embed(sample.image)
    pool = SamFeatures(segmenter=segmenter)
    dense = masks.to_array()
    features = embedding.features.contiguous()  # as other encoders give them
    lifted = lift(features, sample.size)
    order = np.random.default_rng(0).permutation(len(masks))
    each, rounds = (len(masks), 3) if args.full else (2, 3)

    seconds: dict[str, list[float]] = {}
    found: dict[str, list[Float[np.ndarray, "n C"]]] = {}
    exact = []
    for index in range(rounds):
        part = order[np.arange(each * index, each * (index + 1)) % len(masks)]
        some = [dense[i] for i in part]
        once = cpu_seconds(lambda: lift(features, sample.size))[1]
        peers: dict[str, Callable[[], Float[np.ndarray, "n C"]]] = {
            "ours": lambda: pool(sample, masks),
            "masks averaged down": lambda: pool_small(embedding, masks),
            "lifted once": lambda some=some: mean_inside(lifted, some),
            "lifted for each mask": lambda some=some: np.concatenate(
                [mean_inside(lift(features, sample.size), [mask]) for mask in some]
            ),
        }
        for name, work in peers.items():
            rows, spent = cpu_seconds(work)
            if name.startswith("lifted"):
                spent = spent * len(masks) / each + (once if name == "lifted once" else 0)
            else:
                rows = rows[part]
            seconds.setdefault(name, []).append(spent)
            found.setdefault(name, []).append(rows)
        exact += [lifted[:, torch.from_numpy(mask)].double().mean(1).numpy() for mask in some]
    rows = []
    for name, times in seconds.items():
        near = cosine(np.concatenate(found[name]), np.stack(exact))
        rows.append(
            [
                name,
                Spread.of(times),
                ratio(times, seconds["ours"]),
                f"{near.mean():.7f}",
                f"{near.min():.7f}",
            ]
        )
    show(
        f"features of {len(masks)} masks of {side} x {side} pixels; "
        f"what lifts the features is measured on {each} masks a round",
        ["", "CPU s", "x ours", "cosine to the exact mean", "least"],
        rows,
    )


if __name__ == "__main__":
    main()
