import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from alps.errors import DatasetNotFound, LabelError
from alps.images.pixels.isaid import CLASSES, Isaid
from alps.protocols import LabelledSet
from tests.factories import ISAID_COLORS, create_isaid


def isaid(root, **options):
    return Isaid(root=str(root), **{"tile_size": 64, "stride": 40, **options})


def test_the_official_classes(tmp_path):
    categories = isaid(tmp_path).categories()
    assert [c.color for c in categories] == [tuple(color) for color in ISAID_COLORS.tolist()]
    assert [c.id for c in categories] == list(range(16))
    assert categories[14].name == "plane"
    assert categories[Isaid.background].name == "background"
    assert len({name for name, _ in CLASSES}) == 16


def test_tiles_are_named_and_padded_as_published(tmp_path):
    maps = create_isaid(tmp_path)
    images = isaid(tmp_path)
    assert isinstance(images, LabelledSet)
    assert images.protocol == (
        "iSAID val, in tiles of 64 every 40 px, 16 classes (background is one)"
    )
    records = {record.image_id: record for record in images.records()}
    assert list(records) == [
        *(f"P0000_{y}_{x}" for y in ("0_64", "16_80") for x in ("0_64", "40_104", "56_120")),
        *("P0003_0_64_0_64", "P0003_0_64_6_70"),
    ]
    record = records["P0000_16_80_40_104"]
    assert record.file_name == "tiles_64_40/img_dir/train/P0000_16_80_40_104.png"
    np.testing.assert_array_equal(images.read_target(record), maps["P0000"][16:80, 40:104])
    name = "P0000_16_80_40_104_instance_color_RGB.png"
    assert (tmp_path / "tiles_64_40/ann_dir/train" / name).is_file()

    record = records["P0003_0_64_6_70"]
    assert record.split == "val"
    target = images.read_target(record)
    np.testing.assert_array_equal(target[:40], maps["P0003"][:, 6:])
    assert (target[40:] == 255).all()
    assert not images.read(record).image[40:].any()


def test_the_layout_of_the_devkit_is_read(tmp_path):
    """CAPTAIN-WHU/iSAID_Devkit wants images and masks in one folder."""
    create_isaid(tmp_path / "released")
    for path in (tmp_path / "released").rglob("*.png"):
        split = path.relative_to(tmp_path / "released").parts[0]
        target = tmp_path / "devkit" / split / "images" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    released, devkit = isaid(tmp_path / "released"), isaid(tmp_path / "devkit")
    assert released.records() == devkit.records()
    for record in released.records():
        np.testing.assert_array_equal(released.read_target(record), devkit.read_target(record))


def test_test_images_have_no_public_labels(tmp_path):
    create_isaid(tmp_path)
    create_isaid(tmp_path, {"test/P0006": (70, 70)})
    assert {record.split for record in isaid(tmp_path).records()} == {"train", "val"}


def test_an_unknown_colour_is_an_error(tmp_path):
    create_isaid(tmp_path)
    path = tmp_path / "train/Semantic_masks/images/P0000_instance_color_RGB.png"
    mask = np.array(Image.open(path))
    mask[3, 4:6] = 0, 0, 64
    Image.fromarray(mask).save(path)
    with pytest.raises(
        LabelError, match=r"P0000_instance_color_RGB.png has 2 pixels .*\(0, 0, 64\) in row 3, col"
    ):
        isaid(tmp_path).records()


def test_an_image_without_mask_is_an_error(tmp_path):
    create_isaid(tmp_path)
    shutil.rmtree(tmp_path / "val/Semantic_masks")
    with pytest.raises(
        LabelError, match=r"1 of 1 images have no label \(first: val/P0003\); expected .*iSAID"
    ):
        isaid(tmp_path).records()


def test_masks_without_image_are_counted(tmp_path, caplog):
    create_isaid(tmp_path, {f"train/P{i:04d}": (64, 64) for i in range(3)})
    (tmp_path / "train/images/images/P0001.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert [r.image_id[:5] for r in isaid(tmp_path).records()] == ["P0000", "P0002"]
    assert "1 of 3 masks of iSAID's train have no image (first: P0001)" in caplog.text


def test_the_error_of_a_missing_dataset_names_its_source(tmp_path):
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/images/part1.zip").touch()
    with pytest.raises(
        DatasetNotFound,
        match=rf"no image of iSAID under {tmp_path}: found 1 entries \(train\), in train 1 "
        r"entries \(images\), looked for .*P0000_instance_color_RGB.png; download .*"
        r"https://captain-whu.* unzip",
    ):
        isaid(tmp_path).records()
