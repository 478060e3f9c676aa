"""The SAMRS layout (arXiv 2305.02034), as ViTAE-Transformer/SAMRS writes and reads it.

Keys and names are the same as in SAMRS's main_sam_hbox_semantic.py and main_sam_rhbox_semantic.py.
The lists of images are written next to the labels, where its SegmentationDataset expects them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alps.errors import ConfigError
from alps.export.instances import Instances, Tally, read_instances
from alps.export.rows import segmentation
from alps.images.samrs.labels import COLORS
from alps.store.label_store import LabelStore
from alps.structures.records import Category

#: Pickle protocol: the default of Python 3.8, with which SAMRS was made.
PROTOCOL = 4
#: Prompts that are made from the corners of rotated boxes.
ROTATED = ("rhbox", "rhbox_mask", "rbox_mask")
#: Infix of SAMRS's folder names, by the class that reads the images.
INFIXES = {"Dior": "trainvaltest_"}
#: Names of SAMRS's lists by split; other splits keep their names. Both lists are always written,
#: because SAMRS's loaders open both.
LISTS = {"train": "train", "val": "valid"}


def write_samrs(store: LabelStore, folder: Path) -> Tally:
    """Write gray/, color/ and ins/ in hbox_segs_init/ or rhbox_segs_init/, and lists of the images.

    The folder has the name that SAMRS's loaders expect: hbox_segs_init/ for DOTA (SOTA),
    hbox_segs_trainvaltest_init/ for DIOR (SIOR) and rhbox_segs_init/ for FAIR1M (FAST). If the
    prompts were made from rotated boxes, the name always starts with rhbox.

    Ignored objects are skipped, because SAMRS has none; their pixels are 255 in gray/. An image
    without objects has an empty list of instances and an index map of 255.

    Returns:
        The numbers of exported images and masks, and of skipped masks.

    Raises:
        ConfigError: there are too many classes for an 8-bit index map.
    """
    if store.info.ignore_index != 255:
        raise ConfigError(
            f"{store.root} has {store.info.num_classes} classes, and SAMRS's 8-bit maps hold at "
            "most 255; choose the layout coco, or label with fewer classes"
        )
    subset = str(store.info.images.get("target")).rpartition(".")[2]
    prompt = store.info.stages["masks"]["identity"].get("prompt")
    rotated = prompt in ROTATED or subset == "Fair1m"  # all boxes of FAIR1M are rotated
    root = folder / f"{'rhbox' if rotated else 'hbox'}_segs_{INFIXES.get(subset, '')}init"
    categories = store.categories()
    table = _color_table(categories)
    ids: dict[str, list[str]] = {name: [] for name in LISTS.values()}
    tally = Tally()
    for stored in read_instances(store):
        image = tally.select(
            stored,
            {
                "empty": stored.masks.area == 0,
                "ignored": stored.ignore,
                "unlabelled": stored.category_id < 0,
            },
        )
        record = image.record
        gray = store.read_index_map(record)
        files = [
            root / kind / f"{record.image_id}.{suffix}"
            for kind, suffix in (("gray", "png"), ("color", "png"), ("ins", "pkl"))
        ]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(gray).save(files[0])
        Image.fromarray(table[gray]).save(files[1])
        rows = _instances(image, categories, rotated)
        files[2].write_bytes(pickle.dumps(rows, protocol=PROTOCOL))
        ids.setdefault(LISTS.get(record.split, record.split), []).append(record.image_id)
    for name, lines in ids.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tally


def _color_table(categories: list[Category]) -> np.ndarray:
    """Return the RGB colour of each pixel value: SAMRS's, or the store's if there are too few."""
    enough = len(categories) <= len(COLORS)
    table = np.full((256, 3), 255, np.uint8)
    for category in categories:
        table[category.id] = COLORS[category.id] if enough else category.color
    return table


def _instances(image: Instances, categories: list[Category], rotated: bool) -> list[dict[str, Any]]:
    """Return the instances as plain lists, because NumPy 1 cannot unpickle arrays of NumPy 2."""
    masks = image.masks
    xyxy = (masks if masks.boxes is None else masks.boxes).xyxy
    rows = []
    for i in range(len(masks)):
        category = categories[image.category_id[i]]
        if rotated and masks.boxes is not None:
            corners = masks.boxes.quad[i].reshape(4, 2)
            bounds = np.concatenate([corners.min(0), corners.max(0)])
            box = {"rbox": corners.tolist(), "rhbox": bounds.tolist()}
        else:
            box = {"bbox": xyxy[i].tolist()}
        rows.append(
            {
                "mask": segmentation(masks, i),
                **box,
                "category": category.name,
                "label": category.id,
                "size": int(masks.area[i]),
            }
        )
    return rows
