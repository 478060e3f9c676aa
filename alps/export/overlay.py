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

from alps.errors import ImageError
from alps.export.instances import Instances, Tally, read_clips
from alps.export.mp4 import writing_mp4
from alps.images.files.frames import frame_rate
from alps.images.stored import open_store
from alps.store.label_store import LabelStore
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors

logger = logging.getLogger(__name__)

Color = tuple[int, int, int]

#: Frames per second of videos that are folders of frames, which have no frame rate.
RATE = Fraction(25)
#: Colours of tracks, by track id modulo their number.
TRACK_COLORS = distinct_colors(64)
#: Colour of ignored masks, and of masks without track and class.
GRAY = (170, 170, 170)
#: Value of the pixels outside all masks in an index map of masks.
NO_MASK = 65535
#: Image height divided by the height of a line of text, and minimum height of a line in pixels.
ROWS_PER_LINE, MIN_LINE = 45, 10
QUALITY = 90  # JPEG quality


def write_overlay(store: LabelStore, folder: Path) -> Tally:
    """Write <video>.mp4 for each video and <image id>.jpg for each still image.

    Masks have the colour of their track or, without a track, of their class; ignored masks are
    gray. Thin lines show the annotated boxes, with track id and text above them; a text is omitted
    if the font lacks a letter. A video has the frame rate of its source; instead of a frame without
    labels, the last labelled frame is shown.

    Returns:
        The numbers of exported images, masks and videos, and of skipped images.

    Raises:
        DatasetNotFound: the images are not in the folder that the store names.
        MissingPackage: there are videos, and PyAV is not installed.
    """
    store = open_store(store.root, images=store.image_root)
    store.require_images(store.plan[0][0], "pass their folder as --images")
    colors = {category.id: category.color for category in store.categories()}
    tally = Tally()
    for video, images in read_clips(store):
        pictures = _draw_images(store, images, colors, tally)
        if video is not None:
            tally.groups["videos"] += _write_video(
                folder / f"{video}.mp4", Path(store.image_root), pictures
            )
            continue
        for image, picture in pictures:
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
    colors_of_masks = _colors(instances, colors)
    top = paint(masks, np.arange(len(masks)), NO_MASK).astype(np.uint16)
    inside = top != NO_MASK
    color_index = np.where(inside, top, len(masks))
    mask_colors = np.array([*colors_of_masks, GRAY], np.uint8)[color_index]
    picture = image.copy()
    gray = np.append(instances.ignore, False)[color_index]
    picture[gray] = image[gray].mean(axis=1, keepdims=True)
    picture[inside] = cv2.addWeighted(picture, 0.55, mask_colors, 0.45, 0)[inside]
    outline = cv2.morphologyEx(top, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    picture[outline & inside] = mask_colors[outline & inside]
    if masks.boxes is None:
        return picture
    for quad, color in zip(masks.boxes.quad.reshape(-1, 4, 2), colors_of_masks, strict=True):
        # Corners are in sixteenths of a pixel. The centre of the first pixel is 0 in OpenCV and
        # 0.5 in a store.
        corners = np.round((quad - 0.5) * 16).astype(np.int32)
        cv2.polylines(picture, [corners], True, color, 1, cv2.LINE_AA, shift=4)
    return _write_texts(picture, instances, colors_of_masks)


def _draw_images(
    store: LabelStore, images: Iterable[Instances], colors: Mapping[int, Color], tally: Tally
) -> Iterator[tuple[Instances, UInt8[np.ndarray, "H W 3"]]]:
    """Yield images with their drawings; log, count and skip missing or changed images."""
    for image in images:
        try:
            pixels = store.read_pixels(image.record).image
            if pixels.shape[:2] != image.masks.size:
                expected, actual = (f"{w} by {h}" for h, w in (image.masks.size, pixels.shape[:2]))
                raise ImageError(
                    f"it is {actual} px, but was {expected} px when it was labelled; restore it, "
                    "or label it again"
                )
        except ImageError as error:
            logger.warning("skipped %s: %s", image.record.image_id, error)
            tally.skipped["missing or changed images"] += 1
            continue
        yield tally.select(image, {}), draw(pixels, image, colors)


def _write_video(
    path: Path, root: Path, pictures: Iterator[tuple[Instances, UInt8[np.ndarray, "H W 3"]]]
) -> int:
    """Write a video and return 1, or return 0 if no frame could be read."""
    with ExitStack() as stack:
        add, start = None, 0
        for image, picture in pictures:
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
    picture: UInt8[np.ndarray, "H W 3"], instances: Instances, colors_of_masks: list[Color]
) -> UInt8[np.ndarray, "H W 3"]:
    """Write track id and text above each box."""
    boxes = instances.masks.boxes
    assert boxes is not None
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    size = max(picture.shape[0] // ROWS_PER_LINE, MIN_LINE)
    font = _font(size)
    tracks = [str(track) if track >= 0 else "" for track in boxes.track_id]
    for box, track, text, color in zip(
        boxes.xyxy, tracks, boxes.text, colors_of_masks, strict=True
    ):
        label = f"{track} {_text_in_font(text or '', font)}".strip()
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
    """Load DejaVu Sans from matplotlib; Pillow's default font contains only ASCII."""
    import matplotlib as mpl

    path = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _text_in_font(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the text, or "" if the font lacks a letter (all missing letters have one glyph)."""
    unknown = bytes(font.getmask("\uffff"))
    return "" if any(bytes(font.getmask(c)) == unknown for c in text) else text
