"""COCO files of a store, read by pycocotools and by our own reader."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alps.assign.baselines import Random
from alps.assign.category import ByCategory
from alps.export import export_store
from alps.images.boxes.coco import Coco
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from alps.masks.box import BoxMasks
from alps.structures import rle
from tests.box_formats import create_coco
from tests.export.stores import EMPTY, NAMES, SIZE, SPLITS, all_masks, boxed_store, pseudo_store
from tests.fakes import BoxSegmenter, ColorSegmenter


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return boxed_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def out(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("coco")
    export_store(store, "coco", out)
    return out


@pytest.fixture
def coco(out):
    return {split: load(out / f"instances_{split}.json") for split in ("train", "val")}


def load(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def test_each_split_has_a_file_with_its_readable_images(out, coco):
    assert {path.name for path in out.iterdir()} == {"instances_train.json", "instances_val.json"}
    for split, side in coco.items():
        ids = {image["file_name"][len("images/") : -len(".png")] for image in side.imgs.values()}
        assert ids == {i for i, s in SPLITS.items() if s == split} - {"gone"}
        assert {(i["height"], i["width"]) for i in side.imgs.values()} == {SIZE}
        assert [c["name"] for c in side.loadCats(side.getCatIds())] == list(NAMES)
    assert not coco["train"].imgs.keys() & coco["val"].imgs.keys()


def test_every_mask_is_read_back_with_its_class_and_boxes(store, coco):
    masks = all_masks(store)
    seen = 0
    for side in coco.values():
        for image in side.imgs.values():
            image_id = image["file_name"][len("images/") : -len(".png")]
            own = masks[image_id]
            rows = [i for i in range(len(own)) if (image_id, i) != EMPTY]
            found = side.loadAnns(side.getAnnIds(imgIds=image["id"]))
            assert len(found) == len(rows)
            for i, row in zip(rows, found, strict=True):
                seen += 1
                np.testing.assert_array_equal(side.annToMask(row), own.to_array()[i])
                assert row["segmentation"]["counts"] == own.counts[i].decode()
                assert row["category_id"] == own.boxes.category_id[i]
                assert row["iscrowd"] == own.boxes.ignore[i]
                assert row["area"] == own.area[i]
                x, y, w, h = row["bbox"]
                assert [x, y, x + w, y + h] == own.xyxy[i].tolist()
                x, y, w, h = row["prompt_box"]
                np.testing.assert_allclose([x, y, x + w, y + h], own.boxes.xyxy[i], rtol=1e-6)
                corners = rle.rotated_boxes(own.counts[i : i + 1], own.size)[0]
                np.testing.assert_array_equal(np.array(row["rbox"], np.float32), corners)
                given, predicted = own.boxes.score[i], own.predicted_iou[i]
                expected = predicted if np.isnan(given) else given
                np.testing.assert_array_equal(np.float32(row.get("score", np.nan)), expected)
    assert seen == sum(map(len, masks.values())) - 1


def test_a_store_against_itself_scores_1(coco):
    for side in coco.values():
        found = [row | {"score": 1.0} for row in side.anns.values() if not row["iscrowd"]]
        with contextlib.redirect_stdout(io.StringIO()):
            for kind in ("segm", "bbox"):
                evaluation = COCOeval(side, side.loadRes(found), kind)
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
                assert evaluation.stats[0] == pytest.approx(1, abs=1e-9)


def test_the_coco_reader_of_alps_reads_the_export(store, out, tmp_path):
    for image_id in SPLITS:
        path = tmp_path / "images" / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
    (tmp_path / "val.json").write_bytes((out / "instances_val.json").read_bytes())
    images = Coco(root=str(tmp_path), images=".", annotations="val.json", split="val")
    masks = all_masks(store)
    for record in images.records():
        sample = images.read(record)
        own = masks[record.image_id.removeprefix("images/")]
        own = own[own.area > 0]
        assert [images.categories()[c].name for c in sample.boxes.category_id] == [
            NAMES[c] for c in own.boxes.category_id
        ]
        np.testing.assert_array_equal(sample.boxes.xyxy, own.xyxy)
        np.testing.assert_array_equal(sample.boxes.ignore, own.boxes.ignore)
        true = images.read_instances(record, sample.boxes, sample.size)
        np.testing.assert_array_equal(true.to_array(), own.to_array())


def test_pseudo_masks_without_a_class_are_skipped_and_counted(tmp_path):
    store = pseudo_store(tmp_path / "store")
    tally = export_store(store, "coco", tmp_path / "out")
    raw = json.loads((tmp_path / "out/instances_train.json").read_text())
    assert tally.skipped == {"empty": 0, "unlabelled": 10}
    assert tally.images == len(raw["images"]) == 5
    assert tally.masks == len(raw["annotations"]) == 20
    assert [row["id"] for row in raw["annotations"]] == list(range(1, 21))
    assert "prompt_box" not in raw["annotations"][0]
    predicted = [iou for m in all_masks(store).values() for iou in m.predicted_iou]
    np.testing.assert_allclose(
        [row["score"] for row in raw["annotations"]],
        [iou for i, iou in enumerate(predicted) if i % 30 % 3],
    )
    assert {row["iscrowd"] for row in raw["annotations"]} == {0}


def test_a_split_without_masks_has_a_file(tmp_path):
    store = pseudo_store(tmp_path / "store", n=2)
    for shard in range(len(store.plan)):
        store.shard(shard).write_labels(np.full(len(store.shard(shard).areas()), -1), None)
    export_store(store, "coco", tmp_path / "out")
    assert load(tmp_path / "out/instances_train.json").anns == {}


def label_coco(root, folder, masks, assign=ByCategory):
    images = Coco(root=str(root))
    store, _ = label(
        image_set=images,
        masks=masks,
        features=None,
        assign=assign(images),
        engine=LocalEngine(threads=1),
        root=folder / "coco_pl",
        name="coco_pl",
        config="",
        shard_size=1,
    )
    export_store(store, "coco", folder / "out")
    return json.loads((folder / "out/instances_train.json").read_text())


def test_ids_of_the_source_are_kept(tmp_path):
    create_coco(tmp_path / "coco")
    path = tmp_path / "coco/instances.json"
    source = json.loads(path.read_text())
    source["annotations"][1]["bbox"] = [0, 0, 0, 0]  # which is skipped
    source["annotations"].reverse()
    source["images"].reverse()
    path.write_text(json.dumps(source))
    found = label_coco(tmp_path / "coco", tmp_path, BoxMasks(segmenter=BoxSegmenter()))
    assert {i["id"]: i["file_name"] for i in found["images"]} == {
        i["id"]: f"images/{i['file_name']}" for i in source["images"]
    }
    assert {c["id"]: c["name"] for c in found["categories"]} == {3: "ship", 5: "tree"}
    expected = {a["id"]: a for a in source["annotations"]}
    del expected[101]
    assert len(found["annotations"]) == len(expected)
    for own in found["annotations"]:
        other = expected[own["id"]]
        for key in ("image_id", "category_id", "iscrowd"):
            assert own[key] == other[key]
        np.testing.assert_allclose(own["prompt_box"], other["bbox"])
        assert own["score"] == pytest.approx(0.9)


def test_duplicate_ids_of_the_source_are_replaced(tmp_path):
    create_coco(tmp_path / "coco")
    path = tmp_path / "coco/instances.json"
    path.write_text(path.read_text().replace('"id": 101', '"id": 100'))
    found = label_coco(tmp_path / "coco", tmp_path, BoxMasks(segmenter=BoxSegmenter()))
    n = len(found["annotations"])
    assert [a["id"] for a in found["annotations"]] == [*range(1, n + 1)]
    assert [i["id"] for i in found["images"]] == [7, 8]


def test_clusters_and_their_masks_get_new_ids(tmp_path):
    create_coco(tmp_path / "coco")
    masks = AutoMasks(
        segmenter=ColorSegmenter(), points_per_side=4, stability_score_thresh=0.5, ground=0
    )
    found = label_coco(tmp_path / "coco", tmp_path, masks, lambda images: Random(k=2))
    assert [i["id"] for i in found["images"]] == [7, 8]
    assert [c["id"] for c in found["categories"]] == [0, 1]
    assert [a["id"] for a in found["annotations"]] == [*range(1, len(found["annotations"]) + 1)]
