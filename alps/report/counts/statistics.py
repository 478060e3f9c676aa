"""Statistics of a label store, computed shard by shard in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from alps.report.counts.boxes import BoxStatistics
from alps.report.counts.histogram import empty_histogram
from alps.report.counts.rasters import RasterCounts, count_rasters
from alps.store.label_store import LabelStore
from alps.store.labelled import LabelledImage, is_labelled, labelled_images
from alps.store.layout import ImageStatus
from alps.structures.records import ImageRecord

#: Bin edges of mask areas as fractions of the image, four bins per decade; smaller masks are in the
#: first bin.
AREA_EDGES = np.logspace(-7, 0, 29)
#: Bin edges of the coverage, the fraction of an image's valid pixels that lie inside a mask.
COVERAGE_EDGES = np.linspace(0, 1, 21)
#: Cells per side of the grid in which masks are counted; images are stretched to the grid.
GRID = 32

POOL = 256  # the pictures are chosen from this many images to twice as many, if the store has them
SKIPPED = 50  # number of images without labels to list
LOWEST = 10  # number of images to list, those with the lowest coverage
STRIP = 512  # number of rows of an index map to count at once


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An image that may be chosen for the pictures."""

    shard: int
    record: ImageRecord
    category_id: Int[np.ndarray, " N"]


@dataclass(slots=True, eq=False)
class StoreStatistics:
    """Counts of a store; fractions are in 0..1, sizes (H, W) in pixels."""

    class_masks: Int64[np.ndarray, " K"]
    class_pixels: Int64[np.ndarray, " K"]  # in the index maps
    class_distance: Float64[np.ndarray, " K"]  # mean over the masks; NaN if there is none
    # Number of masks by class and grid cell: a mask is distributed evenly over its box and sums to
    # 1. The last plane is for masks without a class. 8 kB per class.
    positions: Float64[np.ndarray, "K+1 G G"]
    boxes: BoxStatistics | None = None  # None: no mask was prompted with a box
    rasters: list[RasterCounts] = field(default_factory=list)  # if images are windows of them
    images: Counter[str] = field(default_factory=Counter)  # by status
    masks_per_image: Counter[int] = field(default_factory=Counter)  # with empty images
    classes_per_image: Counter[int] = field(default_factory=Counter)  # with empty images
    masks: int = 0  # number of masks, including unlabelled masks
    pixels: int = 0  # number of valid pixels
    covered: int = 0  # number of valid pixels that lie inside a mask
    nodata: int = 0  # number of no-data pixels
    nodata_images: int = 0  # number of images with no-data pixels
    blank: int = 0  # number of images without any data
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    areas: Int64[np.ndarray, " A"] = field(default_factory=lambda: empty_histogram(AREA_EDGES))
    coverages: Int64[np.ndarray, " B"] = field(
        default_factory=lambda: empty_histogram(COVERAGE_EDGES)
    )
    # Number of images by fraction of no-data pixels, if they have any; the bins are COVERAGE_EDGES.
    nodata_fractions: Int64[np.ndarray, " B"] = field(
        default_factory=lambda: empty_histogram(COVERAGE_EDGES)
    )
    failed: list[ImageStatus] = field(default_factory=list)  # the first `SKIPPED`
    empty: list[ImageStatus] = field(default_factory=list)  # the first `SKIPPED`
    # The `LOWEST` images with the lowest coverage, among those with masks.
    lowest: list[ImageStatus] = field(default_factory=list)
    pool: list[Candidate] = field(default_factory=list)  # images with masks, evenly spaced

    @classmethod
    def zeros(cls, num_classes: int) -> StoreStatistics:
        """Return counts of zero."""
        k = num_classes
        return cls(
            class_masks=np.zeros(k, np.int64),
            class_pixels=np.zeros(k, np.int64),
            class_distance=np.zeros(k),
            positions=np.zeros((k + 1, GRID, GRID)),
        )

    @property
    def by_size(self) -> list[int]:
        """The classes that have masks, by decreasing number of masks."""
        order = np.argsort(-self.class_masks, kind="stable")
        return [int(c) for c in order if self.class_masks[c]]


def compute_statistics(store: LabelStore) -> StoreStatistics:
    """Compute the statistics of a store in one pass."""
    statistics = StoreStatistics.zeros(store.info.num_classes)
    boxes = BoxStatistics.of(store)
    index, stride = 0, 1
    for shard in range(len(store.plan)):
        for record, status in zip(store.plan[shard], store.shard(shard).images(), strict=True):
            _count_status(statistics, status)
            boxes.count_dropped(record, status)
        for image in labelled_images(store, shard):
            _count_masks(statistics, image)
            boxes.count(image.record, image.masks, image.category_id)
            if is_labelled(store) and not store.has_windows:
                _count_pixels(statistics, store, image.record)
            if not len(image.masks):
                continue
            # Keep every stride-th image; the stride doubles each time the pool is full.
            if index % stride == 0:
                statistics.pool.append(Candidate(shard, image.record, image.category_id))
            if len(statistics.pool) == 2 * POOL:
                statistics.pool, stride = statistics.pool[::2], 2 * stride
            index += 1
    if is_labelled(store) and store.has_windows:
        statistics.rasters = count_rasters(store)
        statistics.class_pixels += sum(raster.class_pixels for raster in statistics.rasters)
    boxes.tracks.close()
    statistics.boxes = boxes or None
    with np.errstate(invalid="ignore"):
        statistics.class_distance /= statistics.class_masks
    return statistics


def _count_status(statistics: StoreStatistics, status: ImageStatus) -> None:
    statistics.images[status.status] += 1
    if status.status == "failed":
        statistics.failed = [*statistics.failed, status][:SKIPPED]
        return
    size = (status.height, status.width)
    statistics.smallest = min(statistics.smallest or size, size, key=np.prod)
    statistics.largest = max(statistics.largest or size, size, key=np.prod)
    statistics.masks_per_image[status.n_masks] += 1
    pixels, nodata = status.pixels, status.nodata  # each access decodes the valid mask
    statistics.pixels += pixels
    statistics.covered += status.covered
    if pixels:
        statistics.coverages += np.histogram(status.covered / pixels, COVERAGE_EDGES)[0]
    if nodata:
        statistics.nodata += nodata
        statistics.nodata_images += 1
        statistics.blank += pixels == 0
        statistics.nodata_fractions += np.histogram(nodata / (nodata + pixels), COVERAGE_EDGES)[0]
    if status.status == "empty":
        statistics.empty = [*statistics.empty, status][:SKIPPED]
    else:
        statistics.lowest = heapq.nsmallest(
            LOWEST, [*statistics.lowest, status], key=lambda s: s.coverage
        )


def _count_masks(statistics: StoreStatistics, image: LabelledImage) -> None:
    statistics.masks += len(image.masks)
    height, width = image.masks.size
    fraction = image.masks.area / max(height * width, 1)
    statistics.areas += np.histogram(fraction.clip(AREA_EDGES[0], 1), AREA_EDGES)[0]
    k = len(statistics.class_masks)
    labelled = image.category_id >= 0
    classes = image.category_id[labelled]
    statistics.class_masks += np.bincount(classes, minlength=k)
    statistics.classes_per_image[len(np.unique(classes))] += 1
    statistics.class_distance += np.bincount(
        classes, image.distance[labelled].astype(np.float64), k
    )
    rows = _spread(image.masks.xyxy[:, 1], image.masks.xyxy[:, 3], height)
    columns = _spread(image.masks.xyxy[:, 0], image.masks.xyxy[:, 2], width)
    for c in np.unique(image.category_id):  # -1 is the last plane
        of_class = image.category_id == c
        statistics.positions[c] += rows[of_class].T @ columns[of_class]


def _spread(
    start: Float32[np.ndarray, " N"], stop: Float32[np.ndarray, " N"], length: int
) -> Float64[np.ndarray, "N G"]:
    """Return the fraction of each interval in [0, ``length``] that lies in each of `GRID` cells."""
    edges = np.linspace(0, length, GRID + 1)
    inside = np.diff(edges.clip(start[:, None], stop[:, None]))
    fractions: np.ndarray = inside / np.maximum(stop - start, 1)[:, None]
    return fractions


def _count_pixels(statistics: StoreStatistics, store: LabelStore, record: ImageRecord) -> None:
    index_map = store.read_index_map(record)
    k = len(statistics.class_pixels)
    for top in range(0, len(index_map), STRIP):  # bincount needs 8 bytes per pixel
        strip = index_map[top : top + STRIP]
        statistics.class_pixels += np.bincount(strip.ravel(), minlength=k)[:k]
