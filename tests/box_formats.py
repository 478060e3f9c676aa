"""Tiny datasets with boxes, in the layout, names and values of those that are published."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco

from tests.factories import draw_scene


@dataclass(frozen=True)
class Drawn:
    """One object of a drawn scene, as people would annotate it."""

    category: str
    xyxy: tuple[int, int, int, int]  # px, right and lower edges exclusive
    rectangle: tuple[float, float, float, float, float]  # centre, sides, angle in radians
    mask: np.ndarray  # bool (H, W), hidden parts as well
    difficult: bool

    @property
    def quad(self) -> tuple[float, ...]:
        """The corners of the smallest rectangle, px with one decimal."""
        cx, cy, width, height, angle = self.rectangle
        corners = cv2.boxPoints(((cx, cy), (width, height), math.degrees(angle)))
        return tuple(round(float(value), 1) for value in corners.ravel())


def draw_objects(
    size: tuple[int, int], seed: int, categories: Sequence[str]
) -> tuple[np.ndarray, list[Drawn]]:
    """A scene of `draw_scene` with its objects; the second is difficult.

    Returns:
        RGB uint8 (H, W, 3), and the objects, their categories in turn.
    """
    image, masks = draw_scene(size, seed)
    objects = []
    for i, mask in enumerate(masks):
        points = np.argwhere(mask)[:, ::-1]
        (x0, y0), (x1, y1) = points.min(0).tolist(), (points.max(0) + 1).tolist()
        corners = np.concatenate([points + shift for shift in np.ndindex(2, 2)])
        center, sides, degrees = cv2.minAreaRect(corners.astype(np.float32))
        rectangle = (*center, *sides, math.radians(degrees))
        category = categories[i % len(categories)]
        objects.append(Drawn(category, (x0, y0, x1, y1), rectangle, mask, i == 1))
    return image, objects


def create_dota(
    root: Path,
    images: Sequence[str] = ("train/P0000", "train/P0002", "val/P0003"),
    size: tuple[int, int] = (96, 128),
    categories: Sequence[str] = ("plane", "large-vehicle", "helipad"),
) -> dict[str, list[Drawn]]:
    """Write DOTA-v2.0 as its archives unpack.

    Returns:
        The objects by the image's id.
    """
    truth = {}
    for seed, name in enumerate(images):
        split, stem = name.split("/")
        image, objects = draw_objects(size, seed, categories)
        lines = [f"{' '.join(map(str, o.quad))} {o.category} {int(o.difficult)}\n" for o in objects]
        text = "".join(["imagesource:GoogleEarth\n", "gsd:0.266170468393\n", *lines])
        _write_image(root / split / "images" / f"{stem}.png", image)
        _write_text(root / split / "labelTxt-v2.0" / f"{stem}.txt", text)
        truth[stem] = objects
    return truth


def create_coco(
    root: Path,
    n: int = 2,
    size: tuple[int, int] = (96, 128),
    categories: Sequence[str] = ("ship", "tree"),
) -> dict[str, list[Drawn]]:
    """Write ``images/`` and ``instances.json``; ids start at 7, the difficult are crowds.

    Returns:
        The objects by the image's id.
    """
    truth = {}
    listed, annotations = [], []
    for i in range(n):
        image, objects = draw_objects(size, i, categories)
        _write_image(root / "images" / f"{i:06}.jpg", image)
        listed.append(
            {"id": 7 + i, "file_name": f"{i:06}.jpg", "height": size[0], "width": size[1]}
        )
        for o in objects:
            rle = coco.encode(np.asfortranarray(o.mask.astype(np.uint8)))
            x0, y0, x1, y1 = o.xyxy
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": 7 + i,
                    "category_id": 3 + 2 * categories.index(o.category),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(o.mask.sum()),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                    "iscrowd": int(o.difficult),
                }
            )
        truth[f"{i:06}"] = objects
    names = [{"id": 3 + 2 * i, "name": name} for i, name in enumerate(categories)]
    file = {"images": listed, "annotations": annotations, "categories": names}
    _write_text(root / "instances.json", json.dumps(file))
    return truth


def create_voc(
    root: Path,
    n: int = 3,
    size: tuple[int, int] = (96, 128),
    categories: Sequence[str] = ("person", "chair"),
) -> dict[str, list[Drawn]]:
    """Write Pascal VOC as its archives unpack, the last image in val.txt.

    Returns:
        The objects by the image's id.
    """
    stems = [f"{i:06}" for i in range(n)]
    truth = {}
    for seed, stem in enumerate(stems):
        image, truth[stem] = draw_objects(size, seed, categories)
        items = [
            f"<object><name>{o.category}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>{int(o.difficult)}</difficult>{_bndbox(o, 1)}</object>"
            for o in truth[stem]
        ]
        _write_image(root / "JPEGImages" / f"{stem}.jpg", image)
        _write_text(root / "Annotations" / f"{stem}.xml", _annotation(f"{stem}.jpg", size, items))
    lists = {"train": stems[:-1], "val": stems[-1:], "trainval": stems}
    _write_lists(root / "ImageSets/Main", lists)
    return truth


def create_dior(
    root: Path,
    size: tuple[int, int] = (96, 128),
    categories: Sequence[str] = ("airplane", "Expressway-toll-station"),
) -> dict[str, list[Drawn]]:
    """Write DIOR with both kinds of boxes: 00001 for training, 00002 for validation, 11726 to test.

    Returns:
        The objects by the image's id.
    """
    truth = {}
    for seed, stem in enumerate(("00001", "00002", "11726")):
        image, truth[stem] = draw_objects(size, seed, categories)
        horizontal, oriented = [], []
        for o in truth[stem]:
            corners = ("left_top", "right_top", "right_bottom", "left_bottom")
            box = "".join(
                f"<x_{corner}>{x}</x_{corner}><y_{corner}>{y}</y_{corner}>"
                for corner, x, y in zip(corners, o.quad[::2], o.quad[1::2], strict=True)
            )
            name = f"<name>{o.category}</name>"
            horizontal.append(f"<object>{name}<pose>Unspecified</pose>{_bndbox(o)}</object>")
            oriented.append(
                f"<object><type>robndbox</type>{name}<truncated>0</truncated>"
                f"<difficult>{int(o.difficult)}</difficult><robndbox>{box}</robndbox>"
                f"<angle>{o.rectangle[4]}</angle></object>"
            )
        folder = "JPEGImages-test" if stem == "11726" else "JPEGImages-trainval"
        _write_image(root / folder / f"{stem}.jpg", image)
        for kind, items in (("Horizontal", horizontal), ("Oriented", oriented)):
            path = root / f"Annotations/{kind} Bounding Boxes" / f"{stem}.xml"
            _write_text(path, _annotation(f"{stem}.jpg", size, items))
    lists = {"train": ["00001"], "val": ["00002"], "test": ["11726"]}
    _write_lists(root / "ImageSets/Main", lists)
    return truth


def create_fair1m(
    root: Path,
    size: tuple[int, int] = (96, 128),
    categories: Sequence[str] = ("Boeing737", "Dry Cargo Ship", "other-vehicle"),
) -> dict[str, list[Drawn]]:
    """Write FAIR1M as its archives unpack, an image in each part, both of the number 0.

    Returns:
        The objects by the image's id.
    """
    truth = {}
    for seed, part in enumerate(("train/part1", "train/part2", "validation")):
        image, objects = draw_objects(size, seed, categories)
        items = []
        for o in objects:
            corners = [f"{x},{y}" for x, y in zip(o.quad[::2], o.quad[1::2], strict=True)]
            points = "".join(f"<point>{corner}</point>" for corner in (*corners, corners[0]))
            items.append(
                "<object><coordinate>pixel</coordinate><type>rectangle</type>"
                "<description>None</description>"
                f"<possibleresult><name>{o.category}</name></possibleresult>"
                f"<points>{points}</points></object>"
            )
        text = (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotation><source>'
            "<filename>0.tif</filename><origin>GF2/GF3</origin></source>"
            f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
            f"<objects>{''.join(items)}</objects></annotation>"
        )
        _write_image(root / part / "images" / "0.tif", image)
        _write_text(root / part / "labelXml" / "0.xml", text)
        truth[f"{part}/0"] = objects
    return truth


def create_hrsc2016(root: Path, size: tuple[int, int] = (96, 128)) -> dict[str, list[Drawn]]:
    """Write Train/ and Test/ of HRSC2016, all ships of the type Kuznetsov.

    Returns:
        The objects by the image's id.
    """
    images = {"100000001": "Train", "100000002": "Train", "100000003": "Test"}
    truth = {}
    for seed, (stem, part) in enumerate(images.items()):
        image, truth[stem] = draw_objects(size, seed, ["ship"])
        items = []
        for o in truth[stem]:
            box = zip(("xmin", "ymin", "xmax", "ymax"), o.xyxy, strict=True)
            rotated = zip(("cx", "cy", "w", "h", "ang"), o.rectangle, strict=True)
            items.append(
                "<HRSC_Object><Class_ID>100000013</Class_ID><truncated>0</truncated>"
                f"<difficult>{int(o.difficult)}</difficult>"
                + "".join(f"<box_{tag}>{value}</box_{tag}>" for tag, value in box)
                + "".join(f"<mbox_{tag}>{value}</mbox_{tag}>" for tag, value in rotated)
                + "<segmented>0</segmented></HRSC_Object>"
            )
        text = (
            f"<HRSC_Image><Img_ID>{stem}</Img_ID><Img_FileName>{stem}</Img_FileName>"
            f"<Img_FileFmt>bmp</Img_FileFmt><Img_SizeWidth>{size[1]}</Img_SizeWidth>"
            f"<Img_SizeHeight>{size[0]}</Img_SizeHeight><Annotated>1</Annotated>"
            f"<HRSC_Objects>{''.join(items)}</HRSC_Objects></HRSC_Image>"
        )
        _write_image(root / part / "AllImages" / f"{stem}.bmp", image)
        _write_text(root / part / "Annotations" / f"{stem}.xml", text)
    train, val, test = images
    lists = {"train": [train], "val": [val], "trainval": [train, val], "test": [test]}
    _write_lists(root / "ImageSets", lists)
    return truth


def _annotation(file_name: str, size: tuple[int, int], items: Sequence[str]) -> str:
    """A file of Pascal VOC."""
    return (
        f"<annotation><filename>{file_name}</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height><depth>3</depth></size><segmented>0</segmented>\n"
        + "\n".join(items)
        + "\n</annotation>\n"
    )


def _bndbox(drawn: Drawn, first: int = 0) -> str:
    """Pixels are counted from ``first``."""
    x0, y0, x1, y1 = drawn.xyxy
    return (
        f"<bndbox><xmin>{x0 + first}</xmin><ymin>{y0 + first}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
    )


def _write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    for name, stems in lists.items():
        _write_text(folder / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
