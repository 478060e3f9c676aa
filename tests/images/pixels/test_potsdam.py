import logging
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.pixels.potsdam import SPLITS, Potsdam
from alps.protocols import LabelledSet
from tests.factories import POTSDAM_COLORS, create_potsdam


def potsdam(root, **options):
    return Potsdam(root=str(root), **{"tile_size": 64, **options})


@pytest.fixture
def root(tmp_path):
    create_potsdam(tmp_path)
    return tmp_path


def targets(images):
    return {record.image_id: images.read_target(record) for record in images.records()}


def test_official_split():
    train, val = (SPLITS[split].split() for split in ("train", "val"))
    assert len(set(train)) == 24
    assert len(set(val)) == 14
    assert not {*train} & {*val}


def test_tiles_are_named_and_split_as_published(root):
    images = potsdam(root)
    assert isinstance(images, LabelledSet)
    records = images.records()
    windows = ["0_0_64_64", "32_0_96_64", "0_32_64_96", "32_32_96_96"]
    areas = {"2_10": "train", "2_13": "val", "7_9": "train"}
    assert [(r.image_id, r.split) for r in records] == [
        (f"{area}_{window}", split) for area, split in areas.items() for window in windows
    ]
    folder = "tiles_64_0_eroded/img_dir"
    assert records[0].file_name == f"{folder}/train/2_10_0_0_64_64.png"
    with Image.open(root / "tiles_64_0_eroded/ann_dir/train/2_10_0_0_64_64.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:6] == [255, 255, 255, 0, 0, 255]
    raster = tifffile.imread(root / "2_Ortho_RGB/top_potsdam_2_10_RGB.tif")
    np.testing.assert_array_equal(images.read(records[1]).image, raster[:64, 32:96])


def test_five_classes_ignore_clutter_and_six_do_not(tmp_path):
    maps = create_potsdam(tmp_path, eroded=False)
    five, six = potsdam(tmp_path), potsdam(tmp_path, num_classes=6)
    assert [c.name for c in five.categories()][-1] == "car"
    assert [c.color for c in six.categories()] == [tuple(c) for c in POTSDAM_COLORS.tolist()]
    for area in maps:
        expected = maps[area][:64, :64]
        np.testing.assert_array_equal(targets(six)[f"{area}_0_0_64_64"], expected)
        expected = np.where(expected == 5, 255, expected)
        np.testing.assert_array_equal(targets(five)[f"{area}_0_0_64_64"], expected)
    assert five.protocol == (
        "ISPRS Potsdam, the 14 test images in tiles of 64, 5 classes (clutter ignored), "
        "full references"
    )
    assert "6 classes (clutter is one)" in six.protocol


def test_eroded_references_are_used_only_for_scoring(root):
    eroded, full = potsdam(root), potsdam(root, eroded=False)
    assert eroded.protocol.endswith("eroded references")
    assert full.protocol.endswith("full references")
    train, val = "2_10_0_0_64_64", "2_13_0_0_64_64"
    np.testing.assert_array_equal(targets(eroded)[train], targets(full)[train])
    expected = targets(full)[val]
    expected[:2], expected[:, :2] = 255, 255
    np.testing.assert_array_equal(targets(eroded)[val], expected)


def test_missing_eroded_references_are_an_error(tmp_path):
    create_potsdam(tmp_path, eroded=False)
    with pytest.raises(
        LabelError,
        match=r"1 of 3 images have no label \(first: top_potsdam_2_13_RGB.tif\); expected .*"
        r"top_potsdam_\*_label_noBoundary.tif for scoring .*dataset.eroded=false",
    ):
        potsdam(tmp_path, eroded=True).records()


def test_after_cutting_the_tiles_suffice(root):
    before = targets(potsdam(root))
    for folder in ("2_Ortho_RGB", "5_Labels_all", "5_Labels_all_noBoundary"):
        shutil.rmtree(root / folder)
    images = potsdam(root)
    after = targets(images)
    assert before.keys() == after.keys()
    assert all((before[tile] == after[tile]).all() for tile in before)
    assert images.protocol.endswith("eroded references")


def test_slightly_deviating_colours_are_rounded(tmp_path):
    maps = create_potsdam(tmp_path, ("2_10",), eroded=False)
    path = tmp_path / "5_Labels_all/top_potsdam_2_10_label.tif"
    color = tifffile.imread(path)
    tifffile.imwrite(path, np.where(color > 0, 252, 3).astype(np.uint8), photometric="rgb")
    found = targets(potsdam(tmp_path, num_classes=6))["2_10_0_0_64_64"]
    np.testing.assert_array_equal(found, maps["2_10"][:64, :64])


@pytest.mark.parametrize("color", [(255, 0, 255), (0, 0, 0)])
def test_unknown_colours_are_an_error(tmp_path, color):
    """The boundary's black is no colour of a full label."""
    create_potsdam(tmp_path, ("2_10",), eroded=False)
    path = tmp_path / "5_Labels_all/top_potsdam_2_10_label.tif"
    image = tifffile.imread(path)
    image[7, 9] = color
    tifffile.imwrite(path, image, photometric="rgb")
    shown = ", ".join(map(str, color))
    with pytest.raises(
        LabelError, match=rf"2_10_label.tif has 1 pixels .* \({shown}\) in row 7, column 9"
    ):
        potsdam(tmp_path).records()


def test_images_without_labels_are_an_error(root):
    (root / "5_Labels_all/top_potsdam_7_9_label.tif").unlink()
    with pytest.raises(LabelError, match=r"1 of 3 images have no label .*5_Labels_all.zip"):
        potsdam(root).records()


def test_an_incomplete_copy_is_logged(root, caplog):
    with caplog.at_level(logging.WARNING):
        potsdam(root).records()
    assert "contains 3 of the 38 images of ISPRS Potsdam; scores are not comparable" in caplog.text


def test_files_may_be_at_any_depth_and_others_are_ignored(tmp_path):
    create_potsdam(tmp_path / "a/b", ("2_10",))
    tifffile.imwrite(tmp_path / "top_potsdam_2_11_IRRG.tif", np.zeros((9, 9, 3), np.uint8))
    tifffile.imwrite(tmp_path / "top_potsdam_9_99_RGB.tif", np.zeros((9, 9, 3), np.uint8))
    assert {r.image_id[:4] for r in potsdam(tmp_path).records()} == {"2_10"}


def test_invalid_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.num_classes is 7, expected 5"):
        potsdam(tmp_path, num_classes=7)
    with pytest.raises(ConfigError, match=r"tiles of 64 px every 0 px: expected .*overlap"):
        potsdam(tmp_path, overlap=64).records()


@pytest.mark.parametrize("there", ["no such folder", r"1 entries \(2_Ortho_RGB.zip\)"])
def test_the_error_of_a_missing_dataset_names_its_source(tmp_path, there):
    root = tmp_path / "potsdam"
    if "zip" in there:
        root.mkdir()
        (root / "2_Ortho_RGB.zip").touch()
    with pytest.raises(
        DatasetNotFound,
        match=rf"no image of ISPRS Potsdam under {root}: found {there}, .*top_potsdam_2_10_RGB.tif"
        r".*5_Labels_all.zip from https://www.isprs.org/.* unzip",
    ):
        potsdam(root).records()
