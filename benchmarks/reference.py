"""The original's features, clusters and index maps (ALPS, arXiv 2406.10855), as in its code.

python -m benchmarks.reference --masks STORE... [--patches 20]

Measures the cost of features and index maps of both on the same masks; see `benchmarks.kmeans` for
k-means and `benchmarks.labels` for the quality of the labels.

Where paper and published code differ, this follows the code. It favours the original in three ways:
masks are in memory instead of one PNG file each, two matrix products replace a product with the
embedding and a count for each mask, and NumPy paints instead of a loop over pixels. The original
takes masks in the order of the file system; here they are sorted by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, UInt8
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional as F
from torchvision import transforms

from alps.features.sam import SamFeatures
from alps.protocols import Featurizer
from alps.sam.segmenter import SamSegmenter
from alps.structures.masks import Masks
from alps.structures.paint import paint
from alps.structures.records import Sample
from benchmarks.measure import Spread, arguments, interleave, one_thread, ratio, show
from benchmarks.patches import IGNORE_INDEX, load_patches

BATCH = 512
#: Masks above this share of the image are dropped.
MAX_AREA = 0.3
#: Side of the encoder's input in pixels; features are lifted and masks lowered to a quarter of it.
INPUT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFeatures:
    """Sums of the embedding inside a mask, divided by the number of its non-zero values.

    The encoder receives blue, green and red in [0, 1], without SAM's mean and standard deviation.
    Masks have soft edges, whose pixels add a fraction of their values to the sum and 1 to the
    number.

    Args:
        segmenter: the SAM whose encoder is used.
    """

    segmenter: SamSegmenter

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the segmenter."""
        return {"features": "reference", **self.segmenter.identity}

    @property
    def channels(self) -> int:
        """256 in every SAM."""
        return 256

    @torch.inference_mode()
    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return a row per mask of a square image; zeros if it vanishes when downsampled."""
        resize = transforms.Compose(
            [transforms.ToPILImage(), transforms.Resize(INPUT), transforms.ToTensor()]
        )
        meet = partial(F.interpolate, size=(INPUT // 4, INPUT // 4), mode="bilinear")
        embedding = meet(self.segmenter.model.image_encoder(resize(sample.image[..., ::-1])[None]))
        values = embedding.flatten(2)[0].T
        shares = torch.stack(
            [meet(resize(mask.astype(np.uint8) * 255)[None]).flatten() for mask in masks.to_array()]
        )
        sums, numbers = shares @ values, (shares > 0).float() @ (values != 0).float()
        return (sums / numbers).nan_to_num(nan=0.0).numpy()


def file_order(n: int) -> list[int]:
    """Return the masks of an image in the order of file names: 0.png, 1.png, 10.png, 2.png."""
    return sorted(range(n), key=str)


def fit(rows: Sequence[Float[np.ndarray, "_ C"]], k: int, seed: int) -> MiniBatchKMeans:
    """Run one pass of mini-batch k-means with a step for every 512 masks.

    Args:
        rows: the features of each image.
        k: number of clusters, at most that of the first 512 masks.
        seed: seed; 0 in the original.
    """
    kmeans = MiniBatchKMeans(k, batch_size=BATCH, n_init="auto", random_state=seed)
    stream = np.concatenate([of_image[file_order(len(of_image))] for of_image in rows])
    for start in range(0, len(stream), BATCH):
        kmeans.partial_fit(stream[start : start + BATCH])
    return kmeans


def assign(
    rows: Sequence[Float[np.ndarray, "_ C"]], kmeans: MiniBatchKMeans
) -> list[Int32[np.ndarray, " _"]]:
    """Return the nearest cluster of each mask of each image."""
    stops = np.cumsum([len(of_image) for of_image in rows])
    return np.split(kmeans.predict(np.concatenate(rows)), stops[:-1])


def paint_files(masks: Masks, category_id: Int32[np.ndarray, " N"]) -> UInt8[np.ndarray, "H W"]:
    """Paint the masks in the order of their files, the last one on top.

    Uncovered pixels are 0, as is cluster 0: its masks are not visible, even on top of others.
    """
    template = np.zeros(masks.size, np.uint8)
    dense = masks.to_array()
    for i in file_order(len(masks)):
        if category_id[i]:
            template[dense[i]] = category_id[i]
    return template


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--masks", type=Path, nargs="+", required=True, help="label stores")
    parser.add_argument("--patches", type=int, default=20)
    args = parser.parse_args()
    one_thread()
    patches = load_patches(args.masks, args.data / "potsdam224")
    patches = [patch for patch in patches if len(patch.masks)][: args.patches]
    masks = [patch.masks for patch in patches]
    segmenter = SamSegmenter("mobile", device="cpu", keep=2 * len(patches))
    segmenter.prefetch([patch.sample.image for patch in patches])  # as after finding the masks
    encoding = SamSegmenter("mobile", device="cpu", keep=1)  # the next patch drives it out
    peers: dict[str, Featurizer] = {
        "ours": SamFeatures(segmenter=segmenter),
        "ours, encoder": SamFeatures(segmenter=encoding),
        "reference": ReferenceFeatures(segmenter=segmenter),
    }
    _, features = interleave(
        {
            name: partial(lambda peer: [peer(p.sample, p.masks) for p in patches], peer)
            for name, peer in peers.items()
        },
        3,
    )
    classes = [np.ones(len(m), np.int32) for m in masks]
    _, index_maps = interleave(
        {
            "ours": lambda: [
                paint(m, ids, IGNORE_INDEX) for m, ids in zip(masks, classes, strict=True)
            ],
            "reference": lambda: list(map(paint_files, masks, classes)),
        },
        3,
    )
    steps = {
        "features": (features["ours"], features["reference"]),
        "features, encoder run anew": (features["ours, encoder"], features["reference"]),
        "index maps": (index_maps["ours"], index_maps["reference"]),
    }
    each = 1000 / len(patches)
    show(
        f"{len(patches)} patches, {sum(map(len, masks))} masks: CPU ms a patch",
        ["", "ours", "reference", "x ours"],
        [
            [
                name,
                Spread.of(each * np.array(ours)),
                Spread.of(each * np.array(theirs)),
                ratio(theirs, ours),
            ]
            for name, (ours, theirs) in steps.items()
        ],
    )


if __name__ == "__main__":
    main()
