"""Find images of a store that have changed since they were read, by their sha256."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tqdm import tqdm

from alps.protocols import ImageSet
from alps.store.faults import Fault
from alps.store.hashes import hash_image
from alps.store.label_store import LabelStore
from alps.store.layout import index_map_path
from alps.structures.records import ImageRecord

#: Maximum number of images that a message names.
NAMED = 5


@dataclass(frozen=True, slots=True)
class ImageChanges:
    """The images of a store compared with their state when they were read."""

    same: int  # number of unchanged images
    changed: tuple[tuple[int, ImageRecord], ...]  # (shard, image)
    absent: tuple[str, ...]  # files that do not exist
    unhashed: int  # number of images without a stored hash

    def faults(self, store: LabelStore) -> Iterator[Fault]:
        """Yield a fault for each file that was made from changed images.

        This includes clusters, which are fitted to the masks of all images, and the reports.
        """
        if not self.changed:
            return
        names: dict[int, list[str]] = {}
        for shard, record in self.changed:
            names.setdefault(shard, []).append(record.file_name)
            yield from _fault_if_exists(store, index_map_path(record))
        for shard, files in names.items():
            more = f" and {len(files) - NAMED} more" * (len(files) > NAMED)
            problem = f"changed since they were read: {', '.join(files[:NAMED])}{more}"
            yield Fault(f"images/{shard:05d}.parquet", problem)
        for shard in range(len(store.plan)):  # of stores of windows
            yield from _fault_if_exists(store, f"objects/{shard:05d}.parquet")
        for name in ("clusters/centroids.npy", "evaluation.json", "evaluation.html"):
            yield from _fault_if_exists(store, name)
        for name in ("choose_k.html", "statistics/choose_k.csv", "statistics/choose_k.png"):
            yield from _fault_if_exists(store, name)


def compare_images(
    store: LabelStore, image_set: ImageSet, damaged: Collection[str]
) -> ImageChanges:
    """Return how the images differ from the sha256 that was stored when they were labelled.

    Args:
        store: the store; it may be unfinished.
        image_set: the images.
        damaged: damaged files of the store, which are not read.
    """
    same, unhashed = 0, 0
    changed: list[tuple[int, ImageRecord]] = []
    absent: list[str] = []
    total = int(store.plan.sizes.sum())
    with (
        tqdm(total=total, desc="images", unit="image") as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for shard, records in enumerate(store.plan):
            bar.update(len(records))
            if not store.has("masks", shard) or f"images/{shard:05d}.parquet" in damaged:
                continue
            stored = {status.image_id: status.sha256 for status in store.shard(shard).images()}
            hashed = [record for record in records if stored.get(record.image_id)]
            unhashed += len(records) - len(hashed)
            # Many images share the file of a video.
            files = {(record.file_name, record.window): record for record in hashed}
            hashes = dict(
                zip(files, pool.map(partial(hash_image, image_set), files.values()), strict=True)
            )
            for record in hashed:
                current = hashes[record.file_name, record.window]
                if current is None:
                    absent.append(record.file_name)
                elif current == stored[record.image_id]:
                    same += 1
                else:
                    changed.append((shard, record))
    return ImageChanges(same, tuple(changed), tuple(absent), unhashed)


def _fault_if_exists(store: LabelStore, name: str) -> Iterator[Fault]:
    if (store.root / name).exists():
        yield Fault(name, "made from images that have changed")
