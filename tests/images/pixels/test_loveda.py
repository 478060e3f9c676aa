import numpy as np
import pytest
from PIL import Image

from alps.errors import DatasetNotFound, LabelError
from alps.images.pixels.loveda import LoveDA
from alps.protocols import LabelledSet
from tests.ground_truth import create_loveda


def loveda(root):
    return LoveDA(root=str(root))


def test_images_splits_and_classes(tmp_path):
    masks = create_loveda(tmp_path)
    images = loveda(tmp_path)
    assert isinstance(images, LabelledSet)
    records = {record.image_id: record for record in images.records()}
    assert {i: r.split for i, r in records.items()} == {
        "Train/Rural/0": "train",
        "Train/Urban/1366": "train",
        "Val/Rural/2522": "val",
        "Val/Urban/3888": "val",
    }
    assert [c.name for c in images.categories()] == [
        *("background", "building", "road", "water", "barren", "forest", "agricultural")
    ]
    for image_id, record in records.items():
        path = tmp_path / record.file_name
        assert record.bytes == path.stat().st_size
        np.testing.assert_array_equal(images.read(record).image, np.array(Image.open(path)))
        target = images.read_target(record)
        assert (target[-1] == 255).all()
        np.testing.assert_array_equal(target[:-1], masks[image_id][:-1] - 1)
        assert set(np.unique(target)) == {*range(7), 255}
    assert "7 classes (background is one), no data ignored" in images.protocol


def test_test_images_have_no_public_labels(tmp_path):
    create_loveda(tmp_path)
    assert (tmp_path / "Test/Rural/images_png").is_dir()
    assert {r.image_id.split("/")[0] for r in loveda(tmp_path).records()} == {"Train", "Val"}


def test_an_image_without_mask_is_an_error(tmp_path):
    create_loveda(tmp_path)
    (tmp_path / "Val/Urban/masks_png/3888.png").unlink()
    with pytest.raises(
        LabelError,
        match=r"1 of 4 images have no label \(first: Val/Urban/images_png/3888.png\); expected a "
        "file of the same name in masks_png",
    ):
        loveda(tmp_path).records()


def test_an_unknown_value_is_an_error(tmp_path):
    create_loveda(tmp_path)
    path = tmp_path / "Train/Rural/masks_png/0.png"
    mask = np.array(Image.open(path))
    mask[3, 4] = 9
    Image.fromarray(mask).save(path)
    images = loveda(tmp_path)
    with pytest.raises(
        LabelError, match=r"0.png contains the value 9, expected 0 \(no data\) to 7"
    ):
        images.read_target(images.records()[0])


def test_the_error_of_a_missing_dataset_names_its_source(tmp_path):
    (tmp_path / "Train.zip").touch()
    with pytest.raises(
        DatasetNotFound,
        match=rf"no image of LoveDA under {tmp_path}: found 1 entries \(Train.zip\), looked for "
        r"\{Train,Val\}/\{Rural,Urban\}/.*Val.zip .*https://github.com/Junjue-Wang/LoveDA.* unzip",
    ):
        loveda(tmp_path).records()
