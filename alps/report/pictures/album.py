"""Select images of a store and make pictures of them; each image is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from alps.errors import ImageError
from alps.protocols import ImageSet
from alps.report.counts.statistics import Candidate, StoreStatistics
from alps.report.pictures.drawing import (
    cut_out,
    data_uri,
    draw_classes,
    draw_masks,
    draw_nodata,
    picture_size,
    shrink,
    shrink_valid,
    top_masks,
)
from alps.report.pictures.outlines import draw_boxes
from alps.store.label_store import LabelStore
from alps.store.labelled import LabelledImage, labelled_images
from alps.store.layout import ImageStatus

IMAGES = 6  # number of complete images to show
READ = 48  # maximum number of images to read
CLASSES = 12  # number of classes to show, the largest first
CUTOUTS = 10  # number of masks to show per class
ENOUGH = 40  # number of masks per class among which the shown masks are selected
KEY = 5  # number of classes in the caption of an image

# 6 × 3 pictures and 12 × 10 cut-outs: 2.7 MB at most, 3.6 MB in base64.
PICTURE_BYTES = 95_000
CUTOUT_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class ImagePictures:
    """An image, its masks and its classes; pictures are data URIs."""

    status: ImageStatus
    nodata: float  # fraction of no-data pixels
    image: str
    masks: str
    classes: str | None  # None: the store has no classes
    # The largest classes, with their fractions of the picture's pixels with data.
    key: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class CutOut:
    """A mask cut out of its image; the picture is a data URI."""

    picture: str
    image_id: str
    mask_id: int
    area: int
    distance: float  # NaN if the recipe has no distances


@dataclass(frozen=True, slots=True)
class Album:
    """All pictures of a report."""

    images: list[ImagePictures]
    strips: dict[int, list[CutOut]]  # masks by category id, from typical to atypical
    n_read: int  # number of images that were read
    n_unreadable: int  # number of images that could not be read


def make_album(
    store: LabelStore,
    image_set: ImageSet,
    statistics: StoreStatistics,
    colors: Sequence[tuple[int, int, int]],
) -> Album:
    """Select images that are spread over the store and contain its largest classes; draw them.

    Args:
        store: a finished label store.
        image_set: the image set that the store was made from.
        statistics: the counts of the store.
        colors: the RGB colour of each class; empty if the store has no classes.

    Returns:
        The pictures as data URIs, and the numbers of readable and unreadable images.
    """
    classes = statistics.by_size[:CLASSES]
    shown = {statistics.pool[i].record.image_id for i in spread(len(statistics.pool), IMAGES)}
    images = _reload(store, [statistics.pool[i] for i in choose_images(statistics.pool, classes)])
    strips = {c: _choose_masks(images, c) for c in classes}
    selection = {position for positions in strips.values() for position in positions}

    pictures: list[ImagePictures] = []
    cutouts: dict[tuple[int, int], CutOut] = {}
    n_unreadable = 0
    for n, image in enumerate(images):
        pixels = _read(image_set, image)
        if pixels is None:
            n_unreadable += 1
            continue
        if image.record.image_id in shown:
            prompt = statistics.boxes.prompt if statistics.boxes else ""
            pictures.append(_draw(image, pixels, colors, prompt))
        for i in range(len(image.masks)):
            if (n, i) in selection:
                cutouts[n, i] = _cut(image, pixels, i)
    return Album(
        images=pictures,
        strips={c: [cutouts[p] for p in ps if p in cutouts] for c, ps in strips.items()},
        n_read=len(images) - n_unreadable,
        n_unreadable=n_unreadable,
    )


def spread(n: int, k: int) -> list[int]:
    """Return ``k`` evenly spaced indices out of ``n``, or all if ``n`` < ``k``.

    >>> spread(10, 4), spread(2, 4)
    ([0, 3, 6, 9], [0, 1])
    """
    return [int(i) for i in np.linspace(0, n - 1, min(k, n)).round()] if n else []


def choose_images(pool: Sequence[Candidate], classes: Sequence[int]) -> list[int]:
    """Return indices of images in ``pool``: evenly spaced, and some with masks of ``classes``."""
    chosen = spread(len(pool), IMAGES)
    counts = np.array([[np.sum(c.category_id == k) for k in classes] for c in pool])
    counts = counts.reshape(len(pool), len(classes))
    total = counts[chosen].sum(axis=0)
    while len(chosen) < READ:
        gain = np.minimum(counts, (ENOUGH - total).clip(0)).sum(axis=1)
        gain[chosen] = 0
        if not gain.any():
            break
        chosen.append(int(gain.argmax()))
        total += counts[chosen[-1]]
    return sorted(chosen)


def _reload(store: LabelStore, candidates: Sequence[Candidate]) -> list[LabelledImage]:
    """Return the candidates with their masks, in the order of the plan."""
    ids = {c.record.image_id for c in candidates}
    shards = sorted({c.shard for c in candidates})
    return [i for s in shards for i in labelled_images(store, s) if i.record.image_id in ids]


def _choose_masks(images: Sequence[LabelledImage], category: int) -> list[tuple[int, int]]:
    """Return (image, mask) indices of a class, evenly spaced by distance to the centroid."""
    positions = [
        (n, int(i)) for n, m in enumerate(images) for i in np.flatnonzero(m.category_id == category)
    ]
    distance = np.array([images[n].distance[i] for n, i in positions])
    order = np.argsort(distance, kind="stable")
    return [positions[order[i]] for i in spread(len(positions), CUTOUTS)]


def _read(image_set: ImageSet, image: LabelledImage) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return the image; None if it cannot be read or its size has changed."""
    try:
        sample = image_set.read(image.record)
    except ImageError:
        return None
    return sample.image if sample.size == image.masks.size else None


def _draw(
    image: LabelledImage,
    pixels: UInt8[np.ndarray, "H W 3"],
    colors: Sequence[tuple[int, int, int]],
    prompt: str,
) -> ImagePictures:
    size = picture_size(image.masks.size)
    valid = shrink_valid(image.status.read_valid(), size)
    picture = draw_nodata(shrink(pixels, size), valid)
    labelled = image.category_id >= 0
    top = top_masks(image.masks[labelled], size)
    category_id = image.category_id[labelled]
    drawn = draw_nodata(draw_masks(picture, top_masks(image.masks, size)), valid)
    draw_boxes(drawn, image.masks, prompt)
    return ImagePictures(
        status=image.status,
        nodata=image.status.nodata / np.prod(image.masks.size),
        image=data_uri(picture, PICTURE_BYTES),
        masks=data_uri(drawn, PICTURE_BYTES),
        classes=data_uri(
            draw_nodata(draw_classes(top, category_id, colors), valid), PICTURE_BYTES, flat=True
        )
        if colors
        else None,
        key=_key(category_id[top[top >= 0]], top.size if valid is None else int(valid.sum())),
    )


def _key(painted: Int[np.ndarray, " P"], n_pixels: int) -> list[tuple[int, float]]:
    classes, pixels = np.unique(painted, return_counts=True)
    order = np.argsort(-pixels, kind="stable")[:KEY]
    return [(int(classes[i]), float(pixels[i] / n_pixels)) for i in order]


def _cut(image: LabelledImage, pixels: UInt8[np.ndarray, "H W 3"], i: int) -> CutOut:
    picture = cut_out(pixels, image.masks.counts[i], image.masks.xyxy[i])
    return CutOut(
        picture=data_uri(picture, CUTOUT_BYTES),
        image_id=image.record.image_id,
        mask_id=i,
        area=int(image.masks.area[i]),
        distance=float(image.distance[i]),
    )
