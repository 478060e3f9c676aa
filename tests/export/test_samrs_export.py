"""SAMRS's layout, read the way its own programs read it (ViTAE-Transformer/SAMRS)."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from alps.errors import ConfigError
from alps.export import export_store
from alps.export.samrs import COLORS
from alps.images.boxes.dior import Dior
from alps.images.boxes.dota import Dota
from alps.images.boxes.fair1m import Fair1m
from alps.images.files.labels import read_labels
from tests.export.stores import NAMES, SPLITS, all_masks, boxed_store, pseudo_store

#: Objects of the fixture that are neither ignored nor empty.
WANTED = {"a": [0, 1], "b": [0, 3], "sub/c": [0], "sea": []}


class Plain(pickle.Unpickler):
    """Takes numbers, text, lists and dicts: no class, no function, no version of NumPy."""

    def find_class(self, module, name):
        raise AssertionError(f"{module}.{name} must not be needed")


def unpickle(path):
    return Plain(io.BytesIO(path.read_bytes())).load()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return boxed_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def out(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("samrs")
    tally = export_store(store, "samrs", out)
    assert tally.skipped == {"empty": 1, "ignored": 1, "unlabelled": 0}
    assert (tally.images, tally.masks) == (4, 5)
    return out


def test_the_dataset_of_samrs_finds_images_and_maps(store, out):
    """SegmentationDataset: lists beside the maps, a path from each line."""
    found = {}
    for name, split in (("train", "train"), ("valid", "val")):
        lines = (out / f"{name}.txt").read_text().splitlines()
        for line in lines:
            found[line] = split
            label = np.array(Image.open(out / "hbox_segs_init/gray" / f"{line}.png"))
            own = read_labels(store.root / f"ann/{split}/{line}.png")
            np.testing.assert_array_equal(label, own)
            assert label.dtype == np.uint8
    assert found == {i: s for i, s in SPLITS.items() if i != "gone"}


def test_gray_holds_class_ids_and_color_the_colours_of_samrs(out):
    for image_id in WANTED:
        with Image.open(out / f"hbox_segs_init/gray/{image_id}.png") as image:
            assert image.mode == "L"
            gray = np.array(image)
        color = np.array(Image.open(out / f"hbox_segs_init/color/{image_id}.png"))
        expected = {255: (255, 255, 255), 0: (0, 127, 255), 1: (0, 63, 0), 2: (0, 127, 63)}
        assert set(np.unique(gray)) <= expected.keys()
        for value, rgb in expected.items():
            assert (color[gray == value] == rgb).all()
    assert (np.array(Image.open(out / "hbox_segs_init/gray/sea.png")) == 255).all()


def test_instances_are_read_by_the_programs_of_samrs(store, out):
    """statistic.py: pixels and instances by label; MTP's converter: area and box by the mask."""
    masks = all_masks(store)
    pixels, instances = dict.fromkeys(range(3), 0), dict.fromkeys(range(3), 0)
    for image_id, rows in WANTED.items():
        found = unpickle(out / f"hbox_segs_init/ins/{image_id}.pkl")
        assert len(found) == len(rows)
        for i, row in zip(rows, found, strict=True):
            own = masks[image_id]
            assert row.keys() == {"mask", "bbox", "category", "label", "size"}
            assert row["category"] == NAMES[row["label"]]
            assert row["label"] == own.boxes.category_id[i]
            np.testing.assert_array_equal(coco.decode(row["mask"]), own.to_array()[i])
            assert isinstance(row["mask"]["counts"], str)
            assert coco.area(row["mask"]) == row["size"] == own.area[i]
            assert row["bbox"] == own.boxes.xyxy[i].tolist()
            pixels[row["label"]] += row["size"]
            instances[row["label"]] += 1
    assert instances == {0: 2, 1: 2, 2: 1}
    assert all(pixels.values())


def test_rotated_prompts_have_both_boxes_and_a_separate_folder(tmp_path):
    store = boxed_store(tmp_path / "store", prompt="rhbox")
    export_store(store, "samrs", tmp_path / "out")
    row = unpickle(tmp_path / "out/rhbox_segs_init/ins/a.pkl")[1]
    assert row.keys() == {"mask", "rbox", "rhbox", "category", "label", "size"}
    assert np.array(row["rbox"]).tolist() == [[30, 5], [45, 10], [40, 25], [25, 20]]
    assert row["rhbox"] == [25, 5, 45, 25]
    assert not (tmp_path / "out/hbox_segs_init").exists()


@pytest.mark.parametrize(
    ("target", "prompt", "folder"),
    [
        (Dota, "hbox", "hbox_segs_init"),
        (Dior, "hbox", "hbox_segs_trainvaltest_init"),
        (Fair1m, "hbox", "rhbox_segs_init"),
        (Fair1m, "rhbox", "rhbox_segs_init"),
    ],
)
def test_each_subset_is_in_the_folder_that_pretraining_reads(target, prompt, folder, tmp_path):
    """main_pretrain.py and statistic.py, which also says which box is in ins/."""
    name = f"{target.__module__}.{target.__qualname__}"  # as label.py notes it
    store = boxed_store(tmp_path / "store", prompt=prompt, target=name)
    export_store(store, "samrs", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {folder, "train.txt", "valid.txt"}
    box = {"rbox", "rhbox"} if folder.startswith("rhbox") else {"bbox"}
    assert unpickle(tmp_path / f"out/{folder}/ins/a.pkl")[0].keys() > box


def test_pseudo_masks_have_their_extent_as_a_box(tmp_path):
    store = pseudo_store(tmp_path / "store", n=1)
    tally = export_store(store, "samrs", tmp_path / "out")
    own = all_masks(store)["0"]
    found = unpickle(tmp_path / "out/hbox_segs_init/ins/0.pkl")
    assert [row["bbox"] for row in found] == own.xyxy[[1, 2, 4, 5]].tolist()
    assert tally.skipped["unlabelled"] == 2
    assert (tmp_path / "out/valid.txt").read_text() == ""


def test_more_classes_than_colours_of_samrs_keep_the_colours_of_the_store(tmp_path):
    assert len(set(COLORS)) == 37
    store = pseudo_store(tmp_path / "store", k=38)
    export_store(store, "samrs", tmp_path / "out")
    gray, color = (
        np.array(Image.open(tmp_path / f"out/hbox_segs_init/{kind}/2.png"))
        for kind in ("gray", "color")
    )
    colors = {category.id: category.color for category in store.categories()}
    for value in set(np.unique(gray)) - {255}:
        assert (color[gray == value] == colors[value]).all()


def test_more_than_255_classes_are_refused(tmp_path):
    store = pseudo_store(tmp_path / "store", k=256, n=1)
    with pytest.raises(
        ConfigError, match=r"has 256 classes, and SAMRS's 8-bit maps hold at most 255"
    ):
        export_store(store, "samrs", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
