import logging

import numpy as np
import pytest
import tifffile

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.pixels.vaihingen import SPLITS, Vaihingen, identify
from alps.protocols import LabelledSet
from tests.ground_truth import ISPRS_COLORS, create_vaihingen

COMPLETE = "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"


def vaihingen(root, **options):
    return Vaihingen(root=str(root), **{"tile_size": 64, **options})


@pytest.fixture
def root(tmp_path):
    create_vaihingen(tmp_path)
    return tmp_path


def targets(images):
    return {record.image_id: images.read_target(record) for record in images.records()}


def test_official_split():
    train, val = (SPLITS[split].split() for split in ("train", "val"))
    assert (len(set(train)), len(set(val))) == (16, 17)
    assert not {*train} & {*val}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("top/top_mosaic_09cm_area1.tif", ("area1", "image")),
        ("a/b/top/top_mosaic_09cm_area38.tif", ("area38", "image")),
        ("gts_for_participants/top_mosaic_09cm_area1.tif", ("area1", "full")),
        ("top_mosaic_09cm_area1.tif", ("area1", "full")),
        ("x/top_mosaic_09cm_area10_noBoundary.tif", ("area10", "eroded")),
        ("top/top_mosaic_09cm_area10_noBoundary.tif", ("area10", "eroded")),
        ("dsm/dsm_09cm_matching_area1.tif", None),
    ],
)
def test_images_are_distinguished_from_labels_by_the_folder_top(path, found):
    assert identify(path) == found


def test_tiles_are_named_and_split_as_published(root):
    images = vaihingen(root)
    assert isinstance(images, LabelledSet)
    assert images.name == "vaihingen"
    records = images.records()
    windows = ["0_0_64_64", "16_0_80_64", "0_32_64_96", "16_32_80_96"]
    areas = {"area1": "train", "area2": "val", "area30": "train"}
    assert [(r.image_id, r.split) for r in records] == [
        (f"{area}_{window}", split) for area, split in areas.items() for window in windows
    ]
    assert records[0].file_name == "tiles_64_0_eroded/img_dir/train/area1_0_0_64_64.png"
    raster = tifffile.imread(root / "top/top_mosaic_09cm_area1.tif")
    np.testing.assert_array_equal(images.read(records[1]).image, raster[:64, 16:80])


def test_five_classes_ignore_clutter_and_six_do_not(tmp_path):
    maps = create_vaihingen(tmp_path, eroded=False)
    five, six = vaihingen(tmp_path), vaihingen(tmp_path, num_classes=6)
    assert [c.color for c in six.categories()] == [tuple(c) for c in ISPRS_COLORS.tolist()]
    assert len(five.categories()) == 5
    for area, labels in maps.items():
        tile = f"{area}_0_0_64_64"
        np.testing.assert_array_equal(targets(six)[tile], labels[:64, :64])
        expected = np.where(labels == 5, 255, labels)[:64, :64]
        np.testing.assert_array_equal(targets(five)[tile], expected)
    assert five.protocol == (
        "ISPRS Vaihingen, the 17 test images in tiles of 64, 5 classes (clutter ignored), "
        "full references"
    )
    with pytest.raises(ConfigError, match=r"dataset\.num_classes is 4, expected 5"):
        vaihingen(tmp_path, num_classes=4)


def test_eroded_references_are_used_only_for_scoring(root):
    eroded, full = vaihingen(root), vaihingen(root, eroded=False)
    assert eroded.protocol.endswith("eroded references")
    np.testing.assert_array_equal(
        targets(eroded)["area1_0_0_64_64"], targets(full)["area1_0_0_64_64"]
    )
    expected = targets(full)["area2_0_0_64_64"]
    expected[:2], expected[:, :2] = 255, 255
    np.testing.assert_array_equal(targets(eroded)["area2_0_0_64_64"], expected)


def test_the_labels_for_participants_are_incomplete(root):
    """The archive of the images holds those of the training areas, gts_for_participants/."""
    (root / COMPLETE).rename(root / "gts_for_participants")
    (root / "gts_for_participants/top_mosaic_09cm_area2.tif").unlink()
    with pytest.raises(
        LabelError,
        match=r"1 of 3 images have no label \(first: top_mosaic_09cm_area2.tif\); expected .*"
        r"ground_truth_COMPLETE.zip and ..._ground_truth_eroded_COMPLETE.zip",
    ):
        vaihingen(root, eroded=False).records()
    assert len(vaihingen(root).records()) == 12


def test_an_incomplete_copy_is_logged(root, caplog):
    with caplog.at_level(logging.WARNING):
        vaihingen(root).records()
    assert (
        "contains 3 of the 33 images of ISPRS Vaihingen; scores are not comparable" in caplog.text
    )


def test_the_error_of_a_missing_dataset_names_its_source(tmp_path):
    with pytest.raises(
        DatasetNotFound,
        match=rf"no image of ISPRS Vaihingen under {tmp_path}/no: found no such folder, .*"
        r"top/top_mosaic_09cm_area1.tif .*COMPLETE.zip from https://www.isprs.org/.* unzip",
    ):
        vaihingen(tmp_path / "no").records()
