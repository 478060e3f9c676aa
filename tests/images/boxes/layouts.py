"""Formats of boxes: what writes a fixture, what reads it, its first image."""

from alps.images.boxes.coco import Coco
from alps.images.boxes.dior import Dior
from alps.images.boxes.dota import Dota
from alps.images.boxes.fair1m import Fair1m
from alps.images.boxes.hrsc2016 import Hrsc2016
from alps.images.boxes.voc import Voc
from alps.images.samrs.boxes import SamrsBoxes
from tests import box_formats as formats
from tests import ground_truth

#: Of each format that states sizes: what writes it, what reads it, the first image.
SIZED = {
    "coco": (formats.create_coco, Coco, "images/000000.jpg"),
    "dior": (formats.create_dior, Dior, "JPEGImages-trainval/00001.jpg"),
    "fair1m": (formats.create_fair1m, Fair1m, "train/part1/images/0.tif"),
    "hrsc2016": (formats.create_hrsc2016, Hrsc2016, "Train/AllImages/100000001.bmp"),
    "voc": (formats.create_voc, Voc, "JPEGImages/000000.jpg"),
    "samrs_boxes": (
        lambda root: ground_truth.create_samrs_subset(root, "sota"),
        lambda root: SamrsBoxes(root=root, subset="sota"),
        "dotav2_1024/trainval/images/P0000__1024__0___0.png",
    ),
}


FORMATS = {
    **SIZED,
    "dota": (formats.create_dota, Dota, "train/images/P0000.png"),
}


def create(tmp_path, kind, table=FORMATS):
    write, read, first = table[kind]
    write(tmp_path)
    return lambda: read(root=str(tmp_path)), tmp_path / first


def kinds(images):
    return {finding.kind: finding for finding in images.findings()}


def first_sample(images, path):
    name = path.relative_to(images.root).as_posix()
    return images.read(next(r for r in images.records() if r.file_name == name))
