"""What a store holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from alps.store.label_store import LabelStore


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a whole store."""

    ok: int
    empty: int
    failed: int
    masks: int
    pixels: int  # that are data
    covered: int
    dropped: int  # boxes that could not be used
    nodata: int  # pixels
    nodata_images: int  # that hold some
    blank: int  # of the empty ones, those in which nothing is data

    @property
    def coverage(self) -> float:
        """Share of the pixels with data that lie inside at least one mask."""
        return self.covered / self.pixels if self.pixels else 0.0


def count(store: LabelStore) -> Counts:
    """Add up images/."""
    statuses: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for shard in range(len(store.plan)):
        for image in store.images(shard):
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
