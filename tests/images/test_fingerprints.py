"""What decides a fingerprint, for every dataset: content does, dates do not.

Annotations are part of the masks' fingerprint; ground truth per pixel decides no label and is part
of an evaluation's.
"""

import gzip
import os
import pickle
import re

import nibabel
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from alps.store.plan import draft
from alps.structures.digest import digest_array
from tests.cli.test_every_dataset import DATASETS
from tests.programs import ROOT

DIGIT = r"(\d)"


def swap(pattern, new=None, nth=0):
    """Replace the first group of a match by as many bytes; without ``new`` a digit by another."""

    def edit(data):
        match = [*re.finditer(pattern.encode(), data)][nth]
        start, stop = match.span(1)
        old = data[start:stop]
        other = bytes([b"0123456789"[(int(old) + 1) % 10]]) if new is None else new.encode()
        assert len(other) == len(old)
        assert other != old
        return data[:start] + other + data[stop:]

    return edit


def edit_row(change):
    """Change the first object of a pickle of SAMRS."""

    def edit(data):
        rows = pickle.loads(data)
        change(rows[0])
        return pickle.dumps(rows, protocol=4)

    return edit


def move_box(row):
    row["bbox"][0] += 1


def other_class(row):
    row["category"] = "".join(("large", "-vehicle"))  # as long as "swimming-pool"; pickled again


#: By dataset: what is changed, in which file, and how; the length stays.
BOXES = {
    "bovtext": [
        ("coordinate", "Video_1.json", swap(r'"points": \[\d*(\d)')),
        ("track", "Video_1.json", swap(r'"ID": "(\d)"')),
        ("word", "Video_1.json", swap('"transcription": "(ALPS)"', "ALPZ")),
        ("flag", "Video_1.json", swap('"transcription": "(###)"', "abc")),
        ("frame", "Video_1.json", swap(r'"(4)": \[', "9")),
    ],
    "coco": [
        ("coordinate", "instances.json", swap(r'"bbox": \[\d*(\d)')),
        ("class", "instances.json", swap(r'"category_id": (3)', "5")),
        ("flag", "instances.json", swap(r'"iscrowd": (0)', "1")),
        ("name of a class", "instances.json", swap('"name": "(tree)"', "bush")),
        ("id of a class", "instances.json", swap(r'"id": (3), "name"', "6")),
        ("size of the image", "instances.json", swap(r'"height": \d(\d)')),
    ],
    "dior": [
        ("coordinate", "Annotations/Horizontal Bounding Boxes/00001.xml", swap(r"<xmin>\d?(\d)")),
        ("corner", "Annotations/Oriented Bounding Boxes/00001.xml", swap(r"<x_left_top>.*?\.(\d)")),
        (
            "class",
            "Annotations/Oriented Bounding Boxes/00002.xml",
            swap("<name>(airplane)", "windmill"),
        ),
        ("flag", "Annotations/Oriented Bounding Boxes/11726.xml", swap("<difficult>(0)", "1")),
    ],
    "dota": [
        ("coordinate", "train/labelTxt-v2.0/P0000.txt", swap(r"\n[\d.]*\.(\d) ")),
        ("class", "train/labelTxt-v2.0/P0000.txt", swap(" (plane) ", "ships")),
        ("flag", "val/labelTxt-v2.0/P0003.txt", swap(r"[a-z] (0)\n", "1")),
    ],
    "dstext": [("coordinate", "Video_1_GT.xml", swap(r'x="\d*?(\d)\.'))],
    "fair1m": [
        ("coordinate", "train/part1/labelXml/0.xml", swap(r"<point>[\d.]*(\d),")),
        ("class", "validation/labelXml/0.xml", swap("<name>(Boeing737)", "Boeing747")),
    ],
    "hrsc2016": [
        ("coordinate", "Train/Annotations/100000001.xml", swap(r"<box_xmin>\d?(\d)")),
        ("angle", "Train/Annotations/100000001.xml", swap(r"<mbox_ang>.*?\.(\d)")),
        ("class", "Test/Annotations/100000003.xml", swap(r"<Class_ID>10000001(\d)")),
        ("flag", "Train/Annotations/100000002.xml", swap("<difficult>(0)", "1")),
    ],
    "icdar2015_video": [
        ("coordinate", "Video_1_GT.xml", swap(r'x="\d*?(\d)\.')),
        ("track", "Video_1_GT.xml", swap(r'Transcription="ALPS" ID="(\d)"')),
        ("flag", "Video_1_GT.xml", swap('(Quality="MODERATE")', 'Quality="LOW"     ')),
    ],
    "vectors": [
        ("coordinate", "labels.geojson", swap(r"6910(3)0", "4")),
        ("class", "labels.geojson", swap('"kind": "(tree)"', "bush")),
    ],
    "samrs_boxes": [
        (
            "coordinate",
            "dotav2_1024/trainval/hbox_segs_init/ins/P0000__1024__0___0.pkl",
            edit_row(move_box),
        ),
        (
            "class",
            "dotav2_1024/trainval/hbox_segs_init/ins/P0001__1024__0___0.pkl",
            edit_row(other_class),
        ),
    ],
    "table": [
        ("coordinate", "boxes.csv", swap(r"image_0,(\d)")),
        ("image", "boxes.csv", swap("(image_0),", "image_1")),
    ],
    "video": [
        ("coordinate", "boxes.csv", swap(r"Video_1,\d+,\d+,\d*(\d)\.")),
        ("track", "boxes.csv", swap(r"Video_1,\d+,(\d)")),
        ("frame", "boxes.csv", swap(r"Video_1,(3),", "9", nth=-1)),
        ("flag", "boxes.csv", swap(r",ALPS,(0)", "1")),
    ],
    "voc": [
        ("coordinate", "Annotations/000000.xml", swap(r"<ymax>\d?(\d)")),
        ("class", "Annotations/000001.xml", swap("<name>(chair)", "couch")),
        ("flag", "Annotations/000002.xml", swap("<difficult>(0)", "1")),
        ("split", "ImageSets/Main/val.txt", swap("(000002)", "000001")),
    ],
}
#: Of these: settings that change what the annotations mean.
READINGS = {
    "vectors": ["dataset.classes=[tree]"],
    "dior": ["dataset.boxes=horizontal"],
    "hrsc2016": ["dataset.level=type"],
    "table": ["dataset.classes=[object,tree]"],
    "video": ["dataset.classes=[words]"],
    "voc": ["dataset.classes=[person,chair]"],
}


def edit_volume(data, folder):
    """Another class in one voxel."""
    before, after = folder / "before.nii.gz", folder / "after.nii.gz"
    before.write_bytes(data)
    volume = nibabel.load(before)
    voxels = np.array(volume.dataobj)
    voxels[3, 3, 1] = (voxels[3, 3, 1] + 1) % 3
    nibabel.save(nibabel.Nifti1Image(voxels, volume.affine), after)
    return after.read_bytes()


def edit_label(data, folder):
    """Another class in one pixel, be it a number or a colour."""
    if data[:2] == b"\x1f\x8b":
        return edit_volume(data, folder)
    path = folder / "edited"
    path.write_bytes(data)
    with Image.open(path) as image:
        pixels, palette, kind = np.array(image), image.getpalette(), image.format
    at = (pixels.shape[0] - 3, pixels.shape[1] - 3)
    others = np.unique(pixels.reshape(-1, *pixels.shape[2:]), axis=0)
    pixels[at] = next(value for value in others if not np.array_equal(value, pixels[at]))
    edited = Image.fromarray(pixels)
    if palette and pixels.ndim == 2:
        edited.putpalette(palette)
    edited.save(path, format=kind)
    return path.read_bytes()


VAIHINGEN = "ISPRS_semantic_labeling_Vaihingen"
SAMRS = "hbox_segs_init/gray/P0000__1024__0___0.png"
#: The label of an image, by dataset.
LABELS = {
    "atlas2023": "atlas-train-dataset-1.0.1/train/labelsTr/lb0.nii.gz",
    "fast": "fair1m_1024/trainval/rhbox_segs_init/gray/0__1024__0___824.png",
    "folder_pair": "ann_dir/train/0.png",
    "isaid": "train/Semantic_masks/images/P0000_instance_color_RGB.png",
    "loveda": "Train/Rural/masks_png/0.png",
    "potsdam": "5_Labels_all/top_potsdam_2_10_label.tif",
    "sior": "dior/hbox_segs_trainvaltest_init/gray/00000.png",
    "sota": f"dotav2_1024/trainval/{SAMRS}",
    "vaihingen": f"{VAIHINGEN}_ground_truth_COMPLETE/top_mosaic_09cm_area1.tif",
}
#: Datasets without annotations or ground truth.
OTHERS = {"folder", "nifti", "rasters", "sample", "samrs"}


def open_set(choice, root, *more):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = [f"+dataset={choice}", f"dataset.root={root}", *DATASETS[choice][1], *more]
        return instantiate(compose("label", words).dataset)


def fingerprint(images):
    """Of the masks of some source."""
    info = draft(
        name="x",
        images={},
        records=images.records(),
        identities={"masks": {"version": 1}},
        num_classes=2,
        ignore_index=255,
        versions={},
    ).info
    return info.stages["masks"]["fingerprint"]


def truth(images):
    return [digest_array(images.read_target(record)) for record in images.records()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Datasets by name, each made once; tests put back what they change."""
    roots = {}

    def make(choice):
        if choice not in roots:
            roots[choice] = tmp_path_factory.mktemp(choice)
            DATASETS[choice][0](roots[choice])
            open_set(choice, roots[choice]).records()  # cuts what is to be cut
        return roots[choice]

    return make


def test_every_dataset_is_tested_here():
    assert {*BOXES, *LABELS, *OTHERS} == {*DATASETS}
    assert READINGS.keys() <= BOXES.keys()


@pytest.mark.parametrize("choice", DATASETS)
def test_touching_or_rewriting_files_does_not_change_the_fingerprint(choice, made):
    root = made(choice)
    before = fingerprint(open_set(choice, root))
    for path in root.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes())
            os.utime(path, (1e9, 1e9))
    assert fingerprint(open_set(choice, root)) == before


@pytest.mark.parametrize(
    ("choice", "what"), [(choice, i) for choice, edits in BOXES.items() for i in range(len(edits))]
)
def test_a_changed_annotation_changes_the_fingerprint(choice, what, made):
    root = made(choice)
    _, name, edit = BOXES[choice][what]
    path = root / name
    before, data = fingerprint(open_set(choice, root)), path.read_bytes()
    edited = edit(data)
    assert len(edited) == len(data)
    path.write_bytes(edited)
    try:
        assert fingerprint(open_set(choice, root)) != before
    finally:
        path.write_bytes(data)
    assert fingerprint(open_set(choice, root)) == before


@pytest.mark.parametrize("choice", READINGS)
def test_other_settings_of_the_reader_change_the_fingerprint(choice, made):
    """Masks keep the number of a box's class, and drop boxes of no class."""
    root = made(choice)
    before = fingerprint(open_set(choice, root))
    assert fingerprint(open_set(choice, root, *READINGS[choice])) != before


@pytest.mark.parametrize("choice", LABELS)
def test_a_changed_pixel_of_ground_truth_changes_only_the_evaluation(choice, made, tmp_path):
    root = made(choice)
    images = open_set(choice, root)
    before, data = (fingerprint(images), truth(images)), (root / LABELS[choice]).read_bytes()
    (root / LABELS[choice]).write_bytes(edit_label(data, tmp_path))
    try:
        images = open_set(choice, root)
        assert fingerprint(images) == before[0]
        changed = sum(a != b for a, b in zip(truth(images), before[1], strict=True))
        assert 1 <= changed <= 4  # tiles overlap
    finally:
        (root / LABELS[choice]).write_bytes(data)


@pytest.mark.parametrize("choice", ["folder", "nifti", "samrs"])
def test_another_file_size_changes_the_fingerprint(choice, made):
    root = made(choice)
    before = fingerprint(open_set(choice, root))
    path = next(p for p in sorted(root.rglob("*")) if p.suffix in (".png", ".gz", ".jpg"))
    data = path.read_bytes()
    path.write_bytes(data + (gzip.compress(b"") if path.suffix == ".gz" else b"\0"))
    try:
        assert fingerprint(open_set(choice, root)) != before
    finally:
        path.write_bytes(data)


def test_lists_of_samrs_determine_the_splits(made):
    root = made("samrs")
    before = fingerprint(open_set("samrs", root))
    path = root / "dior/valid.txt"
    data = path.read_text()
    path.write_text("00000\n")
    try:
        assert fingerprint(open_set("samrs", root)) != before
    finally:
        path.write_text(data)


@pytest.fixture
def dota(tmp_path):
    """One folder of labels for all versions."""
    DATASETS["dota"][0](tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "labelTxt-v2.0").rename(tmp_path / split / "labelTxt")
    return tmp_path


def test_the_classes_of_a_version_change_the_fingerprint(dota):
    versions = [f"dataset.version={version}" for version in ("1.0", "1.5", "2.0")]
    assert len({fingerprint(open_set("dota", dota, version)) for version in versions}) == 3
