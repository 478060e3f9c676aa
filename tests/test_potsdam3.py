"""benchmarks.potsdam3: the crops and classes of the published protocol, and the score."""

import re

import numpy as np
import pytest
import tifffile

from alps.assign.cluster import Cluster
from alps.features.shape import ShapeFeatures
from alps.labelling.recipes import Recipe
from alps.masks.auto import AutoMasks
from benchmarks.potsdam3 import Potsdam3, main
from tests.factories import create_potsdam
from tests.fakes import ColorSegmenter

#: Areas for training, and one of the contest's test areas.
AREAS = ("2_10", "7_9", "2_13")
#: Impervious surface, building, low vegetation, tree, car, clutter as in IIC's potsdam.py.
GROUPS = np.array([0, 1, 2, 2, 0, 1], np.uint8)
COLORS = np.array([(180, 180, 180), (200, 60, 40), (60, 150, 60)], np.uint8)


@pytest.fixture
def truth(tmp_path):
    """Write tiles of two crops in which each of the three classes has one colour."""
    maps = create_potsdam(tmp_path / "potsdam", AREAS, size=(400, 800), eroded=False)
    for area, labels in maps.items():
        path = tmp_path / f"potsdam/2_Ortho_RGB/top_potsdam_{area}_RGB.tif"
        tifffile.imwrite(path, COLORS[GROUPS[labels]], photometric="rgb")
    return maps


def test_crops_are_halved_squares_of_the_training_tiles(tmp_path, truth):
    images = Potsdam3(str(tmp_path / "potsdam"))
    records = images.records()
    assert len(records) == 2 * len(AREAS[:2])
    assert sorted(record.split for record in records) == ["test"] + 3 * ["train"]
    assert records == Potsdam3(str(tmp_path / "potsdam")).records()
    for record in records:
        area, x = record.image_id.rsplit("_", 4)[0], int(record.image_id.split("_")[2])
        whole = GROUPS[truth[area]][:, x : x + 400]
        target = images.read_target(record)
        assert np.array_equal(target, whole[::2, ::2])
        uniform = (whole.reshape(200, 2, 200, 2) == target[:, None, :, None]).all(axis=(1, 3))
        image = images.read(record).image
        assert image.shape == (200, 200, 3)
        assert np.array_equal(image[uniform], COLORS[target[uniform]])


def test_labels_that_follow_the_classes_score_nearly_everything(
    tmp_path, truth, monkeypatch, capsys
):
    def build_recipe(name, images, *, k, points_per_side, **_):
        assert (name, k) == ("alps", 3)
        masks = AutoMasks(segmenter=ColorSegmenter(), points_per_side=points_per_side)
        return Recipe(masks, Cluster(k=k), ShapeFeatures())

    monkeypatch.setattr("alps.labelling.label.build_recipe", build_recipe)
    main(["--root", f"{tmp_path}/potsdam", "--store", f"{tmp_path}/store", "--points", "8"])
    accuracy, mean, *of_classes = re.findall(r"\d+\.\d", capsys.readouterr().out)
    assert float(accuracy) > 95
    assert float(mean) == pytest.approx(np.mean([float(iou) for iou in of_classes]), abs=0.1)
