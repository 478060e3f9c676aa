"""Which ground truth label.py compares with."""

import pytest
from omegaconf import OmegaConf

from alps.cli.label import scores_masks
from alps.images import Coco, FolderPair, Vectors
from tests.factories import create_vectors


@pytest.mark.parametrize(("masks", "expected"), [("BoxMasks", True), ("AutoMasks", False)])
def test_a_set_with_pixels_and_masks_is_compared_by_masks_only_if_boxes_prompt_them(
    tmp_path, masks, expected
):
    create_vectors(tmp_path)
    images = Vectors(root=str(tmp_path), vectors=str(tmp_path / "labels.geojson"))
    cfg = OmegaConf.create({"masks": {"_target_": f"alps.masks.{masks}"}})
    assert scores_masks(cfg, images) is expected
    assert not scores_masks(cfg, FolderPair(root="pairs", classes=["a", "b"]))


def test_a_set_without_classes_of_pixels_is_compared_by_masks(tmp_path):
    (tmp_path / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
    cfg = OmegaConf.create({"masks": {"_target_": "alps.masks.AutoMasks"}})
    assert scores_masks(cfg, Coco(root=str(tmp_path)))
