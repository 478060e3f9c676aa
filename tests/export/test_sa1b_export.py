"""SA-1B's files of a store, read as its description says."""

import json

import numpy as np
from pycocotools import mask as coco

from alps.export import export_store
from tests.export.stores import all_masks, boxed_store, pseudo_store

KEYS = {
    *("id", "segmentation", "bbox", "area", "predicted_iou", "stability_score", "crop_box"),
    "point_coords",
}


def test_every_mask_is_read_back_with_its_scores(tmp_path):
    store = pseudo_store(tmp_path / "store")
    tally = export_store(store, "sa1b", tmp_path / "out")
    ids, numbers = [], []
    for image_id, masks in all_masks(store).items():
        raw = json.loads((tmp_path / f"out/{image_id}.json").read_text())
        assert raw.keys() == {"image", "annotations"}
        assert raw["image"].keys() == {"image_id", "width", "height", "file_name"}
        assert (raw["image"]["height"], raw["image"]["width"]) == masks.size
        assert raw["image"]["file_name"] == f"{image_id}.jpg"
        numbers.append(raw["image"]["image_id"])
        assert len(raw["annotations"]) == len(masks) == 6
        for i, row in enumerate(raw["annotations"]):
            assert row.keys() == KEYS
            np.testing.assert_array_equal(coco.decode(row["segmentation"]), masks.to_array()[i])
            assert row["area"] == coco.area(row["segmentation"])
            assert row["bbox"] == coco.toBbox(row["segmentation"]).tolist()
            assert row["crop_box"] == [0, 0, *masks.size[::-1]]
            assert np.float32(row["predicted_iou"]) == masks.predicted_iou[i]
            assert np.float32(row["stability_score"]) == masks.stability_score[i]
            assert np.float32(row["point_coords"]).tolist() == [masks.point_coords[i].tolist()]
            ids.append(row["id"])
    assert sorted(ids) == list(range(1, 31))
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    assert (tally.images, tally.masks) == (5, 30)


def test_values_missing_from_the_store_are_null(tmp_path):
    store = boxed_store(tmp_path / "store")
    tally = export_store(store, "sa1b", tmp_path / "out")
    raw = json.loads((tmp_path / "out/sub/c.json").read_text())
    assert raw["annotations"][0]["stability_score"] is None
    assert raw["annotations"][0]["point_coords"] == []
    assert json.loads((tmp_path / "out/sea.json").read_text())["annotations"] == []
    assert not (tmp_path / "out/gone.json").exists()
    assert tally.skipped == {"empty": 1}
    assert tally.masks == 6  # the ignored one is a mask as well
