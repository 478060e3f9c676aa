"""Counts of images, masks and pixels in a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from alps.store.label_store import LabelStore


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a store; ``ok``, ``empty`` and ``failed`` are numbers of images."""

    ok: int
    empty: int
    failed: int
    masks: int
    pixels: int  # valid pixels
    covered: int  # pixels inside at least one mask
    dropped: int  # boxes that could not be used
    nodata: int  # no-data pixels
    nodata_images: int  # images with no-data pixels
    blank: int  # images without valid pixels; also counted as empty

    @property
    def coverage(self) -> float:
        """Fraction of the valid pixels that lie inside at least one mask."""
        return self.covered / self.pixels if self.pixels else 0.0


def count(store: LabelStore) -> Counts:
    """Count the contents of a store from its images/ tables."""
    statuses: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for shard in range(len(store.plan)):
        for image in store.shard(shard).images():
            statuses[image.status] += 1
            total["n_masks"] += image.n_masks
            total["pixels"] += image.pixels
            total["covered"] += image.covered
            total["dropped"] += image.dropped
            total["nodata"] += image.nodata
            total["nodata_images"] += image.nodata > 0
            total["blank"] += image.status != "failed" and image.pixels == 0
    return Counts(
        ok=statuses["ok"],
        empty=statuses["empty"],
        failed=statuses["failed"],
        masks=total["n_masks"],
        pixels=total["pixels"],
        covered=total["covered"],
        dropped=total["dropped"],
        nodata=total["nodata"],
        nodata_images=total["nodata_images"],
        blank=total["blank"],
    )
