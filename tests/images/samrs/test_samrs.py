import logging
import shutil

import pytest
from PIL import Image

from alps.errors import ConfigError, DatasetNotFound
from alps.images.samrs.images import Samrs
from alps.protocols import ImageSet
from tests.factories import create_image, create_samrs


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("samrs")
    create_samrs(root)
    return root


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published, tmp_path / "samrs")


def splits(root, **options):
    return {r.image_id: r.split for r in Samrs(str(root), **options).records()}


def test_images_and_splits(published):
    images = Samrs(str(published))
    assert images.name == "samrs"
    assert isinstance(images, ImageSet)
    assert splits(published) == {
        "sota/P0000__1024__0___0": "train",
        "sota/P0001__1024__0___0": "train",
        "sota/P0002__1024__0___0": "val",
        "sior/00000": "train",
        "sior/00001": "train",
        "sior/00002": "val",
        "fast/0__1024__0___824": "train",
        "fast/1__1024__0___824": "train",
        "fast/2__1024__0___824": "val",
    }
    for record in images.records():
        assert record.bytes == (published / record.file_name).stat().st_size
        with Image.open(published / record.file_name) as image:
            assert images.read(record).size == image.size[::-1]


def test_only_requested_subsets_are_used(published):
    assert {i.split("/")[0] for i in splits(published, subsets=["sior"])} == {"sior"}
    for subsets in (["sota", "dota"], []):
        with pytest.raises(
            ConfigError, match=r"expected one or more of \['sota', 'sior', 'fast'\]"
        ):
            Samrs(str(published), subsets=subsets)


def test_existing_subsets_are_used(root, caplog):
    shutil.rmtree(root / "dior")
    with caplog.at_level(logging.WARNING):
        assert {i.split("/")[0] for i in splits(root)} == {"sota", "fast"}
    assert "contains no sior" in caplog.text


def test_folders_named_like_the_subsets_are_read(root):
    expected = splits(root)
    (root / "dotav2_1024/trainval").rename(root / "SOTA")
    (root / "dior").rename(root / "SIOR")
    (root / "fair1m_1024").rename(root / "FAST")
    assert splits(root) == expected


def test_an_image_in_no_list_is_for_training(root):
    create_image(root / "dior/JPEGImages-trainval/09999.jpg")
    assert splits(root)["sior/09999"] == "train"


def test_without_lists_all_images_are_for_training(root):
    for path in root.rglob("*.txt"):
        path.unlink()
    assert set(splits(root).values()) == {"train"}
    assert len(splits(root)) == 9


def test_an_image_in_both_lists_is_for_validation(root):
    (root / "dior/train.txt").write_text("00000\r\n\r\n00001\r\n00002")
    assert splits(root)["sior/00002"] == "val"


def test_missing_listed_images_are_counted(root, caplog):
    (root / "dior/JPEGImages-trainval/00001.jpg").unlink()
    (root / "dior/JPEGImages-trainval/00002.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(splits(root)) == 7
    assert "2 of 3 images in the lists of sior" in caplog.text
    assert "first: 00001" in caplog.text


def test_labels_and_other_files_are_not_images(root):
    (root / "dior/JPEGImages-trainval/Thumbs.db").write_text("")
    (root / "dior/JPEGImages-trainval/._00001.jpg").write_text("")
    (root / "dior/JPEGImages-trainval/folder.jpg").mkdir()
    assert len(splits(root)) == 9


@pytest.mark.parametrize("there", ["nothing", "others", "empty"])
def test_the_error_of_a_missing_dataset_names_its_source(tmp_path, there):
    root = tmp_path / "samrs"
    if there != "nothing":
        (root / "dotav2_1024/trainval/images").mkdir(parents=True)
    if there == "others":
        shutil.move(root / "dotav2_1024", root / "dota")
    found = {
        "nothing": "no such folder",
        "others": r"1 entries \(dota\)",
        "empty": r"1 entries \(dotav2_1024\)",
    }[there]
    pattern = (
        rf"no images of SAMRS under {root}: found {found}, looked for "
        "dotav2_1024/trainval/images, dior/JPEGImages-trainval, fair1m_1024/trainval/images; "
        "download .*https://github.com/ViTAE-Transformer/SAMRS"
    )
    with pytest.raises(DatasetNotFound, match=pattern):
        Samrs(str(root)).records()
