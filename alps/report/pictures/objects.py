"""Pictures of objects with box, outline of the ground-truth mask and outline of the mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from alps.errors import ImageError
from alps.evaluation.objects import InstanceScores
from alps.protocols import InstanceSet
from alps.report.pictures.drawing import around, data_uri, shrink
from alps.store.label_store import LabelStore
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord
from alps.structures.tiles import Tile

OBJECTS = 7  # number of best, of median and of worst objects
SIDE = 320  # longer side of a picture in pixels; pages show it at less than half that size
PICTURE_BYTES = 20_000  # maximum per picture; at most 3 × 7 pictures take 0.6 MB in base64
TRUE, MASK, BOX = (0, 229, 255), (255, 61, 113), (255, 255, 255)
COLORS = {
    "outline of the ground-truth mask": TRUE,
    "outline of the mask, on top": MASK,
    "prompt box": BOX,
}


@dataclass(frozen=True, slots=True)
class ObjectPicture:
    """An object of an image; the picture is a data URI."""

    picture: str
    image_id: str
    mask_id: int
    category: Category
    iou: float
    area: int  # pixels of the ground-truth mask


def choose_objects(scores: InstanceScores, records: Sequence[ImageRecord]) -> dict[str, list[int]]:
    """Return the rows of the best, median and worst objects, from as many images as possible.

    The frames of a video count as one image.
    """
    sources = {_source(records[i]) for i in np.unique(scores.image)}
    most = -(-OBJECTS // max(len(sources), 1))  # maximum number of objects per image or video
    order = np.argsort(-scores.iou, kind="stable")
    middle = len(order) // 2
    by_distance = np.argsort(np.abs(np.arange(len(order)) - middle), kind="stable")
    orders = {"Best": order, "Median": order[by_distance], "Worst": order[::-1]}
    chosen: dict[str, list[int]] = {}
    for title, rows in orders.items():
        taken: Counter[str] = Counter()
        chosen[title] = []
        for row in rows.tolist():
            source = _source(records[scores.image[row]])
            if taken[source] < most:
                taken[source] += 1
                chosen[title].append(row)
            if len(chosen[title]) == OBJECTS:
                break
    return chosen


def show_objects(
    store: LabelStore, image_set: InstanceSet, scores: InstanceScores
) -> list[tuple[str, list[ObjectPicture]]]:
    """Return (title, objects) of the best, median and worst objects.

    Each image is read once; objects of images that cannot be read are skipped.

    Args:
        store: the scored label store.
        image_set: the image set that the store was made from.
        scores: the scores of the store.
    """
    records = [record for shard in store.plan for record in shard]
    chosen = choose_objects(scores, records)
    rows = np.unique([row for part in chosen.values() for row in part]).astype(np.int64)
    pictures = dict(_draw(store, image_set, scores, rows))
    return [
        (title, [pictures[row] for row in part if row in pictures])
        for title, part in chosen.items()
    ]


def _draw(
    store: LabelStore, image_set: InstanceSet, scores: InstanceScores, rows: Int64[np.ndarray, " n"]
) -> Iterator[tuple[int, ObjectPicture]]:
    index = 0  # position of the image in the plan
    categories = {category.id: category for category in scores.categories}
    for shard, records in enumerate(store.plan):
        images = scores.image[rows]
        if not ((images >= index) & (images < index + len(records))).any():
            index += len(records)
            continue
        masks = store.shard(shard).masks()
        for record in records:
            of_image = rows[images == index]
            index += 1
            if not len(of_image):
                continue
            drawn = masks[record.image_id][scores.mask_id[of_image]]
            assert drawn.boxes is not None, "only masks with boxes are scored"
            try:
                image = image_set.read(record).image
            except ImageError:
                continue
            true = image_set.read_instances(record, drawn.boxes, drawn.size)
            if image.shape[:2] != drawn.size or len(true) != len(drawn):
                continue
            for i, row in enumerate(of_image.tolist()):
                picture = draw_object(image, drawn[np.array([i])], true[np.array([i])])
                yield (
                    row,
                    ObjectPicture(
                        picture=data_uri(picture, PICTURE_BYTES),
                        image_id=record.image_id,
                        mask_id=int(scores.mask_id[row]),
                        category=categories[int(scores.category_id[row])],
                        iou=float(scores.iou[row]),
                        area=int(scores.area[row]),
                    ),
                )


def draw_object(
    image: UInt8[np.ndarray, "H W 3"], mask: Masks, true: Masks
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a box, its mask and its ground-truth mask over the part of the image around them.

    Args:
        image: the RGB image.
        mask: a single mask of the store with its box.
        true: the ground-truth mask.

    Returns:
        An RGB picture whose longer side is `SIDE` pixels.
    """
    assert mask.boxes is not None, "only masks with boxes are scored"
    box = mask.boxes.xyxy[0]
    extent = box if not true.area[0] else _join(box, true.xyxy[0])
    tile = around(extent, (image.shape[0], image.shape[1]))
    scale = SIDE / max(tile.size)
    size = (max(round(tile.size[0] * scale), 1), max(round(tile.size[1] * scale), 1))
    window = np.ascontiguousarray(image[tile.y0 : tile.y1, tile.x0 : tile.x1])
    picture = shrink(window, size)
    corners = np.array([tile.x0, tile.y0] * 2, np.float32)
    x0, y0, x1, y1 = np.round((box - corners) * scale).astype(int).tolist()
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), BOX, 1, cv2.LINE_8)
    # The outline of the ground-truth mask is wider, so that both are visible where they coincide.
    for counts, color, width in ((true.counts[0], TRUE, 5), (mask.counts[0], MASK, 2)):
        inside = _inside(counts, image.shape[0], tile, size)
        outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, color, width, cv2.LINE_AA)
    return picture


def _inside(
    counts: bytes, height: int, tile: Tile, size: tuple[int, int]
) -> UInt8[np.ndarray, "h w"]:
    """Return the part of a mask in ``tile``, resized to ``size`` (h, w); 1 inside."""
    mask: Bool[np.ndarray, "H W"] = rle.decode_window(counts, height, tile)
    smooth = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    inside: np.ndarray = (smooth >= 0.5).astype(np.uint8)
    return inside


def _source(record: ImageRecord) -> str:
    return record.video_id or record.image_id


def _join(a: Float32[np.ndarray, " 4"], b: Float32[np.ndarray, " 4"]) -> Float32[np.ndarray, " 4"]:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
