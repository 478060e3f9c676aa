"""Count the contents of a label store shard by shard, in memory that does not grow with it."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from alps.images.files.labels import read_labels
from alps.report.counts.boxes import BoxCensus
from alps.report.counts.histogram import empty_histogram
from alps.store.label_store import LabelStore
from alps.store.labelled import LabelledImage, is_labelled, labelled_images
from alps.store.layout import ImageStatus
from alps.structures.records import ImageRecord

#: Edges of the bins of a mask's share of its image: four per decade; smaller is in the first.
AREA_EDGES = np.logspace(-7, 0, 29)
#: Edges of the bins of the share of an image's pixels with data that lie in a mask.
COVERAGE_EDGES = np.linspace(0, 1, 21)
#: Cells per side of the grid on which masks are counted, with each image stretched to a square.
GRID = 32

POOL = 256  # number of images from which the pictures are chosen
SKIPPED = 50  # number of images without labels to list
LOWEST = 10  # number of images with the lowest coverage to list
STRIP = 512  # rows of an index map to count at once


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An image that may be chosen for the pictures."""

    shard: int
    record: ImageRecord
    category_id: Int[np.ndarray, " N"]


@dataclass(slots=True, eq=False)
class Census:
    """The counts of a store; shares are in 0..1, areas in pixels, sizes (H, W)."""

    class_masks: Int64[np.ndarray, " K"]
    class_pixels: Int64[np.ndarray, " K"]  # in the index maps
    class_distance: Float64[np.ndarray, " K"]  # mean over the masks; NaN without distances
    # Positions of the masks by class: a mask counts 1 in sum, spread evenly over its box. The last
    # plane is for masks without a class. 8 kB per class.
    places: Float64[np.ndarray, "K+1 G G"]
    boxes: BoxCensus | None = None  # None: no mask was prompted with a box
    images: Counter[str] = field(default_factory=Counter)  # by status
    masks_per_image: Counter[int] = field(default_factory=Counter)  # empty images included
    classes_per_image: Counter[int] = field(default_factory=Counter)  # empty ones included
    masks: int = 0  # unlabelled ones included
    pixels: int = 0  # pixels with data
    covered: int = 0  # pixels with data inside a mask
    nodata: int = 0  # no-data pixels
    nodata_images: int = 0  # images with no-data pixels
    blank: int = 0  # images without any data
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    areas: Int64[np.ndarray, " A"] = field(default_factory=lambda: empty_histogram(AREA_EDGES))
    coverages: Int64[np.ndarray, " B"] = field(
        default_factory=lambda: empty_histogram(COVERAGE_EDGES)
    )
    # Images with no-data pixels, by their share of these; the bins are `COVERAGE_EDGES`.
    nodata_shares: Int64[np.ndarray, " B"] = field(
        default_factory=lambda: empty_histogram(COVERAGE_EDGES)
    )
    failed: list[ImageStatus] = field(default_factory=list)  # the first `SKIPPED`
    empty: list[ImageStatus] = field(default_factory=list)  # the first `SKIPPED`
    lowest: list[ImageStatus] = field(default_factory=list)  # the `LOWEST` images with masks
    pool: list[Candidate] = field(default_factory=list)  # images with masks, evenly spaced

    @classmethod
    def zeros(cls, num_classes: int) -> Census:
        """Return counts of zero."""
        k = num_classes
        return cls(
            class_masks=np.zeros(k, np.int64),
            class_pixels=np.zeros(k, np.int64),
            class_distance=np.zeros(k),
            places=np.zeros((k + 1, GRID, GRID)),
        )

    @property
    def by_size(self) -> list[int]:
        """The classes that have masks, by decreasing number of masks."""
        order = np.argsort(-self.class_masks, kind="stable")
        return [int(c) for c in order if self.class_masks[c]]


def take_census(store: LabelStore) -> Census:
    """Count a whole store in one pass."""
    census = Census.zeros(store.info.num_classes)
    boxes = BoxCensus.of(store)
    place, stride = 0, 1
    for shard in range(len(store.plan)):
        for record, status in zip(store.plan[shard], store.shard(shard).images(), strict=True):
            _count_status(census, status)
            boxes.count_dropped(record, status)
        for image in labelled_images(store, shard):
            _count_masks(census, image)
            boxes.count(image.record, image.masks, image.category_id)
            if is_labelled(store):
                _count_pixels(census, store, image.record)
            if not len(image.masks):
                continue
            # Keep every stride-th image; the stride doubles each time the pool is full.
            if place % stride == 0:
                census.pool.append(Candidate(shard, image.record, image.category_id))
            if len(census.pool) == 2 * POOL:
                census.pool, stride = census.pool[::2], 2 * stride
            place += 1
    boxes.tracks.close()
    census.boxes = boxes or None
    with np.errstate(invalid="ignore"):
        census.class_distance /= census.class_masks
    return census


def _count_status(census: Census, status: ImageStatus) -> None:
    census.images[status.status] += 1
    if status.status == "failed":
        census.failed = [*census.failed, status][:SKIPPED]
        return
    size = (status.height, status.width)
    census.smallest = min(census.smallest or size, size, key=np.prod)
    census.largest = max(census.largest or size, size, key=np.prod)
    census.masks_per_image[status.n_masks] += 1
    pixels, nodata = status.pixels, status.nodata  # each access decodes the map of valid pixels
    census.pixels += pixels
    census.covered += status.covered
    if pixels:
        census.coverages += np.histogram(status.covered / pixels, COVERAGE_EDGES)[0]
    if nodata:
        census.nodata += nodata
        census.nodata_images += 1
        census.blank += pixels == 0
        census.nodata_shares += np.histogram(nodata / (nodata + pixels), COVERAGE_EDGES)[0]
    if status.status == "empty":
        census.empty = [*census.empty, status][:SKIPPED]
    else:
        census.lowest = heapq.nsmallest(LOWEST, [*census.lowest, status], key=lambda s: s.coverage)


def _count_masks(census: Census, image: LabelledImage) -> None:
    census.masks += len(image.masks)
    height, width = image.masks.size
    share = image.masks.area / max(height * width, 1)
    census.areas += np.histogram(share.clip(AREA_EDGES[0], 1), AREA_EDGES)[0]
    k = len(census.class_masks)
    labelled = image.category_id >= 0
    classes = image.category_id[labelled]
    census.class_masks += np.bincount(classes, minlength=k)
    census.classes_per_image[len(np.unique(classes))] += 1
    census.class_distance += np.bincount(classes, image.distance[labelled].astype(np.float64), k)
    rows = _spread(image.masks.xyxy[:, 1], image.masks.xyxy[:, 3], height)
    columns = _spread(image.masks.xyxy[:, 0], image.masks.xyxy[:, 2], width)
    for c in np.unique(image.category_id):  # -1 is the last plane
        of_class = image.category_id == c
        census.places[c] += rows[of_class].T @ columns[of_class]


def _spread(
    start: Float32[np.ndarray, " N"], stop: Float32[np.ndarray, " N"], length: int
) -> Float64[np.ndarray, "N G"]:
    """Return the share of each interval in [0, ``length``] that lies in each of `GRID` cells."""
    edges = np.linspace(0, length, GRID + 1)
    inside = np.diff(edges.clip(start[:, None], stop[:, None]))
    shares: np.ndarray = inside / np.maximum(stop - start, 1)[:, None]
    return shares


def _count_pixels(census: Census, store: LabelStore, record: ImageRecord) -> None:
    index_map = read_labels(store.root / "ann" / record.split / f"{record.image_id}.png")
    k = len(census.class_pixels)
    for top in range(0, len(index_map), STRIP):  # bincount needs 8 bytes per pixel
        strip = index_map[top : top + STRIP]
        census.class_pixels += np.bincount(strip.ravel(), minlength=k)[:k]
