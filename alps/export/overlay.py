"""Draw the masks over the images: an MP4 file per video, a JPEG file per still image."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from alps.errors import DatasetNotFound, ImageError
from alps.export.instances import Instances, Tally, read_clips
from alps.export.mp4 import writing_mp4
from alps.images.files.frames import frame_rate, read_frame
from alps.images.files.listing import contents
from alps.store.label_store import LabelStore
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors

logger = logging.getLogger(__name__)

Color = tuple[int, int, int]

#: Frames per second of a folder of frames, which has no frame rate of its own.
RATE = Fraction(25)
#: Colours of tracks, by track id modulo their number.
TRACK_COLORS = distinct_colors(64)
#: Colour of ignored masks, and of masks with neither track nor class.
GRAY = (170, 170, 170)
#: Value of the pixels outside all masks in an index map of masks.
NOWHERE = 65535
#: Image rows per line of text, and the least height of such a line in pixels.
LINES, LEAST = 45, 10
QUALITY = 90  # JPEG quality


def write_overlay(store: LabelStore, folder: Path) -> Tally:
    """Write <video>.mp4 for each video and <image id>.jpg for each still image.

    A mask has the colour of its track, else of its class; ignored masks are gray. Thin lines show
    the annotated boxes, with track id and text above them; a text in a script that the font lacks
    is omitted. A video plays at the speed of its source: a frame without labels shows the last
    labelled one.

    Raises:
        DatasetNotFound: the images are not in the folder that the store names.
        MissingPackage: there are videos, and PyAV is not installed.
    """
    root = _find_images(store)
    colors = {category.id: category.color for category in store.categories()}
    tally = Tally()
    for video, images in read_clips(store):
        drawn = _drawn(root, images, colors, tally)
        if video is not None:
            tally.groups["videos"] += _write_video(folder / f"{video}.mp4", root, drawn)
            continue
        for image, picture in drawn:
            path = folder / f"{image.record.image_id}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path, quality=QUALITY)
    return tally


def draw(
    image: UInt8[np.ndarray, "H W 3"], instances: Instances, colors: Mapping[int, Color]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw masks, boxes, track ids and texts over a copy of the image.

    Args:
        image: the RGB image that was labelled.
        instances: the masks of the image.
        colors: the RGB colour of each class, by category id.

    Returns:
        An RGB picture of the size of the image.
    """
    masks = instances.masks
    own = _colors(instances, colors)
    top = paint(masks, np.arange(len(masks)), NOWHERE).astype(np.uint16)
    inside = top != NOWHERE
    place = np.where(inside, top, len(masks))
    flat = np.array([*own, GRAY], np.uint8)[place]
    picture = image.copy()
    gray = np.append(instances.ignore, False)[place]
    picture[gray] = image[gray].mean(axis=1, keepdims=True)
    picture[inside] = cv2.addWeighted(picture, 0.55, flat, 0.45, 0)[inside]
    edges = cv2.morphologyEx(top, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    picture[edges & inside] = flat[edges & inside]
    if masks.boxes is None:
        return picture
    for quad, color in zip(masks.boxes.quad.reshape(-1, 4, 2), own, strict=True):
        # In sixteenths of a pixel. The centre of the first pixel is 0 in OpenCV, 0.5 in a store.
        corners = np.round((quad - 0.5) * 16).astype(np.int32)
        cv2.polylines(picture, [corners], True, color, 1, cv2.LINE_AA, shift=4)
    return _write_texts(picture, instances, own)


def _find_images(store: LabelStore) -> Path:
    root = Path(store.info.images["root"])
    first = next(record for records in store.plan for record in records)
    if not (root / first.file_name).exists():
        raise DatasetNotFound(
            f"the images of the label store {store.root} are not in {root.absolute()} "
            f"({contents(root)}, no {first.file_name}); give the folder they are in as --images"
        )
    return root


def _drawn(
    root: Path, images: Iterable[Instances], colors: Mapping[int, Color], tally: Tally
) -> Iterator[tuple[Instances, UInt8[np.ndarray, "H W 3"]]]:
    """Yield images with their drawings; missing or changed images are logged and counted."""
    for image in images:
        try:
            pixels = read_frame(root, image.record).image
            if pixels.shape[:2] != image.masks.size:
                was, now = (f"{w} by {h}" for h, w in (image.masks.size, pixels.shape[:2]))
                raise ImageError(f"it was {was} px when it was labelled, and is {now} px")
        except ImageError as error:
            logger.warning("left out %s: %s", image.record.image_id, error)
            tally.left_out["images that are not as they were labelled"] += 1
            continue
        yield tally.take(image, {}), draw(pixels, image, colors)


def _write_video(
    path: Path, root: Path, drawn: Iterator[tuple[Instances, UInt8[np.ndarray, "H W 3"]]]
) -> int:
    """Write a video and return 1, or return 0 if no frame could be read."""
    with ExitStack() as stack:
        add, start = None, 0
        for image, picture in drawn:
            number = image.record.frame_index or 0
            if add is None:
                rate = frame_rate(root, image.record) or RATE
                size = (picture.shape[0], picture.shape[1])
                add, start = stack.enter_context(writing_mp4(path, size, rate)), number
            add(picture, number - start)
    return int(add is not None)


def _colors(instances: Instances, colors: Mapping[int, Color]) -> list[Color]:
    """Return the colour of each mask."""
    boxes = instances.masks.boxes
    n = len(instances.masks)
    tracks = np.full(n, -1) if boxes is None else boxes.track_id
    return [
        GRAY
        if ignore
        else TRACK_COLORS[track % len(TRACK_COLORS)]
        if track >= 0
        else colors.get(category_id, GRAY)
        for ignore, track, category_id in zip(
            instances.ignore.tolist(),
            tracks.tolist(),
            instances.category_id.tolist(),
            strict=True,
        )
    ]


def _write_texts(
    picture: UInt8[np.ndarray, "H W 3"], instances: Instances, own: list[Color]
) -> UInt8[np.ndarray, "H W 3"]:
    """Write track id and text above each box."""
    boxes = instances.masks.boxes
    assert boxes is not None
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    size = max(picture.shape[0] // LINES, LEAST)
    font = _font(size)
    tracks = [str(track) if track >= 0 else "" for track in boxes.track_id]
    for box, track, text, color in zip(boxes.xyxy, tracks, boxes.text, own, strict=True):
        label = f"{track} {_drawable(text or '', font)}".strip()
        if label:
            left, upper, right, lower = pen.textbbox((0, 0), label, font, stroke_width=1)
            x = max(min(box[0], picture.shape[1] - (right - left)), 0)
            y = max(box[1] - (lower - upper) - 1, 0)
            light = tuple(round(0.4 * value + 0.6 * 255) for value in color)
            pen.text(
                (x - left, y - upper), label, light, font, stroke_width=1, stroke_fill=(0, 0, 0)
            )
    return np.array(canvas)


@lru_cache(maxsize=1)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans from matplotlib, as Pillow's default font has ASCII only."""
    import matplotlib as mpl

    path = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the text, or "" if the font lacks a letter: missing glyphs all look the same."""
    unknown = bytes(font.getmask("\uffff"))
    return "" if any(bytes(font.getmask(c)) == unknown for c in text) else text
