"""Compare the labels of a store with the ground truth of its images, one image at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from alps.assign.baselines import Binary, Random
from alps.errors import LabelError
from alps.images.stored import StoredLabels
from alps.metrics.clustering import Contingency, contingency
from alps.metrics.masks import Tally, oracle, tally
from alps.protocols import LabelledSet
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.structures.digest import digest, digest_array
from alps.structures.masks import Masks
from alps.structures.paint import ignore_nodata
from alps.structures.records import ImageRecord

log = logging.getLogger(__name__)

#: Minimum area, as a fraction of the image, of the ground-truth regions that recall is computed on.
MIN_REGION = 1e-4
#: Maximum number of masks that a 16-bit index map can hold besides "no mask".
MAX_MASKS = 65535

#: The masks of an image, their clusters and the status of the image.
StoredImage = tuple[Masks, Int[np.ndarray, " _"], ImageStatus]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The labels of an image in a store, and its ground truth."""

    record: ImageRecord
    masks: Masks
    category_id: Int[np.ndarray, " N"]  # cluster of each mask; -1: unlabelled
    labels: Integer[np.ndarray, "H W"]
    target: Integer[np.ndarray, "H W"]  # no-data pixels have the ignore index
    pixels: int  # number of pixels with data


class Comparison:
    """Compare a store with the ground truth of its images, and count the compared images.

    Args:
        store: a label store in which all stages have run.
        image_set: the image set that the store was made from.
    """

    def __init__(self, store: LabelStore, image_set: LabelledSet) -> None:
        self.store, self.image_set = store, image_set
        self.categories = image_set.categories()
        self.images: dict[str, int] = {}  # number of compared images by split
        self.skipped: dict[str, str] = {}  # reasons why images could not be compared, by image id
        self._truth: dict[str, str] = {}  # digests of ground truth by image id
        k = store.info.num_classes
        fill = store.info.stages["assign"]["identity"].get("fill", 0)
        self._baselines: dict[str, Random | Binary] = {
            "random": Random(k=k, fill=fill),
            "binary": Binary(),
        }
        self._num_clusters = {"labels": k, "random": k, "binary": 2}
        self._labels = StoredLabels(root=str(store.root))

    def pairs(self, splits: Sequence[str], purpose: str) -> Iterator[Pair]:
        """Yield the images of some splits in the order of the plan.

        Images that cannot be compared are logged and skipped.

        Args:
            splits: the splits to compare.
            purpose: the title of the progress bar.

        Yields:
            The labels and the ground truth of each image.

        Raises:
            LabelError: no image can be compared.
            StoreError: a part of the store cannot be read.
        """
        plan = [[r for r in shard if r.split in splits] for shard in self.store.plan]
        n = sum(map(len, plan))
        self.images |= dict.fromkeys(splits, 0)
        with logging_redirect_tqdm(), tqdm(total=n, desc=purpose, unit="image") as bar:
            for shard, records in enumerate(plan):
                stored_images = self._masks(shard) if records else {}
                for record in records:
                    try:
                        pair = self._read(record, stored_images)
                    except LabelError as error:
                        if record.image_id not in self.skipped:
                            log.warning("skipped %s: %s", record.file_name, error)
                        self.skipped[record.image_id] = str(error)
                    else:
                        self.images[record.split] += 1
                        yield pair
                    bar.update()
        if not any(self.images[split] for split in splits):
            first = next(
                self.skipped[record.image_id]
                for records in plan
                for record in records
                if record.image_id in self.skipped
            )
            raise LabelError(
                f"none of the {n} images of {' and '.join(splits)} can be compared with their "
                f"ground truth; the first: {first}"
            )

    @property
    def truth(self) -> str:
        """Digest of the compared ground truth, independent of the order of the images."""
        return digest(sorted(self._truth.items()))

    def zeros(self) -> dict[str, Contingency]:
        """Return counts of zero, to which the counts of images are added."""
        n = len(self.categories)
        return {
            name: Contingency(np.zeros((k, n), np.int64), np.zeros(n, np.int64))
            for name, k in self._num_clusters.items()
        }

    def count(self, pair: Pair) -> dict[str, Contingency]:
        """Count pixels by cluster and class, for the labels and for two baselines.

        The baselines are painted from the same masks: "random" has random clusters, as many as the
        labels; "binary" has two clusters, inside a mask and outside. Masks without a label in the
        store have none in "random", so that only the clusters differ.

        Args:
            pair: the labels and the ground truth of an image.

        Returns:
            The counts for "labels", "random" and "binary".
        """
        unlabelled = self.store.info.ignore_index
        maps = {"labels": pair.labels}
        for name, baseline in self._baselines.items():
            no_features = np.zeros((len(pair.masks), 0), np.float32)
            ids, _ = baseline.assign(no_features, None, pair.record.image_id)
            if name == "random":
                ids[pair.category_id < 0] = -1
            maps[name] = baseline.paint(pair.masks, ids, unlabelled)
        return {
            name: self._table(index_map, pair.target, self._num_clusters[name], unlabelled)
            for name, index_map in maps.items()
        }

    def count_masks(self, pair: Pair) -> tuple[Tally, Contingency]:
        """Score the masks, and count them by cluster and class.

        Returns:
            The scores of the masks, and the number of masks by cluster and most frequent class.
        """
        ignore_index, n = self.image_set.ignore_index, len(self.categories)
        counts = tally(
            *(pair.masks, pair.target, n, ignore_index),
            min_area=int(MIN_REGION * pair.target.size),
            pixels=pair.pixels,
        )
        classes = oracle(pair.masks, pair.target, n, ignore_index)
        classes[classes < 0] = ignore_index
        k = self._num_clusters["labels"]
        return counts, self._table(pair.category_id, classes, k, -1)

    def _table(
        self,
        clusters: Integer[np.ndarray, "*pixels"],
        classes: Integer[np.ndarray, "*pixels"],
        k: int,
        unlabelled: int,
    ) -> Contingency:
        return contingency(
            *(clusters, classes, k, len(self.categories)),
            unlabelled=unlabelled,
            ignore_index=self.image_set.ignore_index,
        )

    def _masks(self, shard: int) -> dict[str, StoredImage]:
        """Return the masks, their clusters and the status of each image of a shard, by image id."""
        masks = self.store.shard(shard).masks()
        ends = np.cumsum([len(m) for m in masks.values()])
        parts = np.split(self.store.shard(shard).labels()[0], ends)
        statuses = {status.image_id: status for status in self.store.shard(shard).images()}
        return {i: (masks[i], part, statuses[i]) for i, part in zip(masks, parts, strict=False)}

    def _read(self, record: ImageRecord, stored_images: dict[str, StoredImage]) -> Pair:
        if record.image_id not in stored_images:
            raise LabelError(f"{record.file_name} could not be read when the store was labelled")
        masks, category_id, status = stored_images[record.image_id]
        if len(masks) > MAX_MASKS:
            raise LabelError(
                f"{record.file_name} has {len(masks)} masks, expected at most {MAX_MASKS}; cut the "
                "image into tiles"
            )
        target = self.image_set.read_target(record)
        if target.shape != masks.size:
            (h, w), (height, width) = target.shape, masks.size
            raise LabelError(
                f"the ground truth of {record.file_name} is {w} x {h} pixels, expected {width} x "
                f"{height}, the size of the image when it was labelled; use files of equal size"
            )
        n, ignore_index = len(self.categories), self.image_set.ignore_index
        target = ignore_nodata(target, status.read_valid(), ignore_index)
        if (highest := target.max(initial=0, where=target != ignore_index)) >= n:
            raise LabelError(
                f"the ground truth of {record.file_name} contains the class {highest}, expected 0 "
                f"to {n - 1} or {ignore_index} (ignored); correct the file, or name all classes in "
                "dataset.classes"
            )
        if record.image_id not in self._truth:
            self._truth[record.image_id] = digest_array(target)
        labels = self._labels.read_target(record)
        return Pair(record, masks, category_id, labels, target, status.pixels)
