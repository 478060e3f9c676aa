"""Compare masks with those of segment_anything.

python -m benchmarks.agreement

Everything mode with 8 × 8 points on thirty real images, compared with segment_anything's generator
at batch size 4; about 15 s per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy.optimize import linear_sum_assignment
from segment_anything.utils.amg import build_point_grid

from alps.images.files.read import read_image
from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.sam.load import load_segmenter
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.measure import (
    arguments,
    console,
    load_images,
    one_thread,
    sample_images,
    show,
    stock_generator,
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of the masks of one image with those of the stock generator."""

    stock: int
    ours: int
    ious: tuple[float, ...]  # of the matched pairs

    @classmethod
    def of(cls, stock: Sequence[bytes], ours: Masks) -> Agreement:
        """Pair the masks one to one so that the sum of their IoUs is maximal.

        ``stock`` are the compressed run lengths of masks.
        """
        iou = rle.iou(ours.counts, stock, ours.size)
        pairs = iou[linear_sum_assignment(-iou)]
        return cls(len(stock), len(ours), tuple(pairs.tolist()))

    @property
    def mean(self) -> float:
        """Mean IoU of the matched pairs."""
        return float(np.mean(self.ious)) if self.ious else 1.0

    @property
    def least(self) -> float:
        """Lowest IoU of a matched pair."""
        return min(self.ious, default=1.0)


def run_lengths(stock: Sequence[dict[str, Any]]) -> list[bytes]:
    """Return the compressed run lengths of masks of the stock generator."""
    return [mask["segmentation"]["counts"].encode() for mask in stock]


def real_images(data: Path) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Return 2 images of DOTA, 16 of VHR-10, 12 of Potsdam as tiles, or the four samples."""
    if not (data / "vhr10").is_dir() or not (data / "potsdam224").is_dir():
        console.print(f"{data} lacks vhr10 or potsdam224: the sample images are taken instead")
        return sample_images()
    vhr10 = sorted((data / "vhr10/images").glob("*.jpg"))
    potsdam = sorted((data / "potsdam224/img_dir/val").glob("*.png"))
    files = vhr10[:: len(vhr10) // 16][:16] + potsdam[:: len(potsdam) // 12][:12]
    return load_images(data) | {
        f"{file.parts[-3]} {file.stem}": np.ascontiguousarray(read_image(file)[:1024, :1024])
        for file in files
    }


def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    segmenter = load_segmenter("mobile", device="cpu")
    side = 32 if args.full else 8
    grid = build_point_grid(side)
    found: dict[str, list[Agreement]] = {"exact": [], "fast": []}
    images = real_images(args.data)
    for name, image in images.items():
        stock = run_lengths(stock_generator(segmenter.model, grid, 4).generate(image))
        for way, agreements in found.items():
            masks = AutoMasks(
                segmenter=segmenter, points_per_side=side, fast=way == "fast", **SAM_SETTINGS
            )
            agreements.append(Agreement.of(stock, masks(Sample("image", image))))
        exact, fast = found["exact"][-1], found["fast"][-1]
        console.print(
            f"{name:24} stock {exact.stock:4} exact {exact.ours:4} mean {exact.mean:.5f} least "
            f"{exact.least:.4f} fast {fast.ours:4} mean {fast.mean:.5f} least {fast.least:.4f}"
        )
    rows = []
    for way, agreements in found.items():
        ious = np.array([iou for agreement in agreements for iou in agreement.ious])
        rows.append(
            [
                way,
                len(agreements),
                sum(a.stock for a in agreements),
                sum(a.ours for a in agreements),
                sum(a.stock != a.ours for a in agreements),
                f"{ious.mean():.5f}",
                f"{ious.min():.4f}",
                f"{(ious == 1).mean():.1%}",
            ]
        )
    show(
        f"masks against segment_anything's, {side} x {side} points",
        ["", "images", "stock's", "ours", "other counts", "mean IoU", "least", "the same bits"],
        rows,
    )


if __name__ == "__main__":
    main()
