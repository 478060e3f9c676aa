import shutil

import numpy as np
import pytest

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.pixels.atlas2023 import Atlas2023
from alps.protocols import LabelledSet
from tests.ground_truth import create_atlas2023, cut_short, draw_volume, unzip, write_volume


def atlas(root):
    return Atlas2023(root=str(root))


def train(root):
    return root / "atlas-train-dataset-1.0.1/train"


def test_slices_of_a_patient_are_in_one_split(tmp_path):
    truth = create_atlas2023(tmp_path)
    images = atlas(tmp_path)
    assert isinstance(images, LabelledSet)
    records = images.records()
    assert [(r.image_id, r.split, r.video_id, r.frame_index) for r in records] == [
        (f"im{number}/{i:04d}", split, f"im{number}", i)
        for number, split in ((0, "val"), (1, "train"), (10, "val"))
        for i in range(3)
    ]
    assert [c.name for c in images.categories()] == ["background", "liver", "tumour"]
    assert images.background == 0
    assert "every fifth training volume (not the challenge's test set), 3 classes" in (
        images.protocol
    )
    for record in records:
        target = images.read_target(record)
        labels = truth[record.video_id][:, :, record.frame_index]
        np.testing.assert_array_equal(target, labels.T[::-1, ::-1])
        image = images.read(record).image
        assert target.shape == image.shape[:2]
        means = [image[target == label].mean() for label in range(3)]
        assert means == sorted(means)  # what lies in the image lies there in the labels


@pytest.mark.parametrize("nested", [True, False])
def test_files_may_be_at_any_depth_and_decompressed(tmp_path, nested):
    create_atlas2023(tmp_path)
    expected = [atlas(tmp_path).read_target(r) for r in atlas(tmp_path).records()]
    if not nested:
        shutil.move(train(tmp_path), tmp_path / "flat")
        shutil.rmtree(tmp_path / "atlas-train-dataset-1.0.1")
    unzip(next(tmp_path.rglob("im0.nii.gz")))
    zipped = next(tmp_path.rglob("lb1.nii.gz"))
    kept = zipped.read_bytes()
    unzip(zipped)
    zipped.write_bytes(kept)  # gunzip -k
    images = atlas(tmp_path)
    records = images.records()
    assert records[0].file_name.endswith("imagesTr/im0.nii")
    zipped.write_bytes(b"")  # the one that is quicker to read is taken
    np.testing.assert_array_equal([images.read_target(r) for r in records], expected)


def test_a_volume_without_labels_is_an_error(tmp_path):
    create_atlas2023(tmp_path)
    (train(tmp_path) / "labelsTr/lb1.nii.gz").unlink()
    with pytest.raises(
        LabelError, match=r"1 of 3 images have no label \(first: .*im1.nii.gz\); expected labelsTr/"
    ):
        atlas(tmp_path).records()


def test_an_unusable_volume_costs_one_image(tmp_path):
    create_atlas2023(tmp_path)
    cut_short(train(tmp_path) / "imagesTr/im1.nii.gz")
    images = atlas(tmp_path)
    records = [r for r in images.records() if r.video_id == "im1"]
    assert [r.image_id for r in records] == ["im1/0000"]
    with pytest.raises(ImageError, match=r"cannot read .*im1.nii.gz: it is truncated"):
        images.read(records[0])


def test_invalid_labels_are_errors(tmp_path):
    create_atlas2023(tmp_path)
    path = train(tmp_path) / "labelsTr/lb0.nii.gz"
    write_volume(path, np.full((64, 48, 3), 7, np.uint8))
    images = atlas(tmp_path)
    first = images.records()[0]
    with pytest.raises(LabelError, match=r"lb0.nii.gz contains 7 in slice 0, expected 0 to 2"):
        images.read_target(first)
    create_atlas2023(tmp_path / "other")
    path = train(tmp_path / "other") / "labelsTr/lb0.nii.gz"
    write_volume(path, draw_volume((64, 48, 2))[1])
    images = atlas(tmp_path / "other")
    with pytest.raises(LabelError, match=r"has the shape \(64, 48, 2\) and its image \(64, 48, 3"):
        images.read_target(images.records()[0])


def test_the_error_of_a_missing_dataset_names_its_source(tmp_path):
    (tmp_path / "atlas-train-dataset-1.0.1.zip").touch()
    with pytest.raises(
        DatasetNotFound,
        match=rf"no volume of ATLAS 2023 under {tmp_path}: found 1 entries .*imagesTr/im0.nii.gz "
        r".*register at https://atlas-challenge.u-bourgogne.fr/dataset, .*unzip it there",
    ):
        atlas(tmp_path).records()
