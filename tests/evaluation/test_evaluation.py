"""A store against ground truth: what good, bad and renamed labels score, and what is written."""

import json
import re

import numpy as np
import pytest

from alps.errors import LabelError
from alps.evaluation.pseudo_labels import evaluate, evaluation_to_json
from alps.report import write_evaluation
from alps.store.label_store import LabelStore
from alps.structures.records import Sample
from tests.evaluation.scenes import IGNORE, G, Truth, by_lot, make


def test_perfect_labels_score_one(tmp_path):
    truth = Truth()
    found = evaluate(make(tmp_path / "s", truth, lambda c, *_: c), truth)
    labels = found.ratings["labels"]
    assert (labels.everywhere.OA, labels.everywhere.mIoU, labels.one_to_one) == (1, 1, 1)
    assert labels.everywhere.iou == found.ratings["oracle"].everywhere.iou == (1,) * G
    assert labels.agreement.nmi == pytest.approx(1)
    assert labels.agreement.ari == pytest.approx(1)
    assert (labels.coverage, found.mask_accuracy, found.mask_purity) == (1, 1, 1)
    assert (found.masks.ar_100, found.masks.boundary_f1) == (1, 1)
    assert [score.accuracy for score in (*found.best, *found.worst)] == [1] * 3


def test_renumbered_clusters_get_the_same_scores(tmp_path):
    truth, new = Truth(), np.random.default_rng(3).permutation(9)
    first, second = by_lot(9), by_lot(9)
    a = evaluate(make(tmp_path / "a", truth, first, 9), truth)
    b = evaluate(make(tmp_path / "b", truth, lambda *of: int(new[second(*of)]), 9), truth)
    assert b.mapping[new].tolist() == a.mapping.tolist()
    assert (b.clusters.counts[new] == a.clusters.counts).all()
    for rating in ("labels", "oracle", "binary"):
        for name in ("everywhere", "covered", "one_to_one", "coverage"):
            assert getattr(a.ratings[rating], name) == getattr(b.ratings[rating], name)
    assert a.mask_accuracy == b.mask_accuracy


def test_clusters_are_mapped_to_classes_on_train_only(tmp_path):
    truth = Truth(("test", "train", "val"), n=2)

    def turned(c, image_id, i):
        return int(c) if image_id.startswith("train") else (int(c) + 1) % G

    found = evaluate(make(tmp_path / "s", truth, turned), truth)
    assert (found.learnt_on, found.scored_on) == (["train"], ["test", "val"])
    assert found.held_out
    assert found.images == {"train": 2, "test": 2, "val": 2}
    assert found.mapping.tolist() == [0, 1, 2, 3]
    assert found.ratings["labels"].everywhere.OA == 0  # right on train, wrong everywhere else
    assert found.ratings["labels"].agreement.purity == 1
    assert found.masks.images == 4


@pytest.mark.parametrize("splits", [("train",), ("val",), ("test", "val")])
def test_without_other_splits_all_images_are_learnt_on_and_scored(tmp_path, splits):
    truth = Truth(splits, n=1)
    found = evaluate(make(tmp_path / "s", truth, lambda c, *_: (int(c) + 1) % G), truth)
    assert not found.held_out
    assert (found.learnt_on, found.scored_on) == ([*splits], [*splits])
    assert found.ratings["labels"].everywhere.OA == 1
    path = write_evaluation(LabelStore(tmp_path / "s"), truth, found)
    assert "was determined on the scored images" in path.read_text()


@pytest.mark.parametrize(("n", "best", "worst"), [(1, 1, 0), (2, 1, 1), (5, 3, 2), (9, 4, 4)])
def test_no_image_is_listed_twice(tmp_path, n, best, worst):
    truth = Truth(("val",), n=n)
    found = evaluate(make(tmp_path / "s", truth, lambda c, *_: c), truth)  # all are equal
    names = [score.record.image_id for score in (*found.best, *found.worst)]
    assert (len(found.best), len(found.worst)) == (best, worst)
    assert len({*names}) == best + worst


def test_a_single_image_is_not_listed_as_best_or_worst(tmp_path):
    truth = Truth(("val",), n=1)
    store = make(tmp_path / "s", truth, by_lot(4), 4)
    html = write_evaluation(store, truth, evaluate(store, truth)).read_text()
    assert html.count('<span class="mono">val/0</span>') == 1
    assert not re.search(r"<b>(Best|Worst)", html)


def test_no_classes_do_better_than_the_oracle(tmp_path):
    truth = Truth()
    found = evaluate(make(tmp_path / "s", truth, by_lot(5), 5), truth)
    accuracy = {name: rating.everywhere.OA for name, rating in found.ratings.items()}
    assert accuracy["oracle"] > max(accuracy["labels"], accuracy["random"], accuracy["binary"])


def test_the_random_control_keeps_the_unlabelled_masks_of_the_labels(tmp_path):
    truth = Truth()
    found = evaluate(make(tmp_path / "s", truth, lambda c, *_: -1 if c == 2 else int(c)), truth)
    assert found.ratings["labels"].coverage < 1
    assert found.ratings["random"].coverage == found.ratings["labels"].coverage
    assert found.ratings["oracle"].coverage == found.ratings["binary"].coverage == 1
    assert found.ratings["labels"].everywhere.iou[2] == 0
    assert found.ratings["labels"].covered.OA == 1
    assert found.mask_purity == 1 > found.mask_accuracy


class Holes(Truth):
    """A quarter of each image is no data; its ground truth there is wrong, or no class."""

    valid = np.ones((40, 48), bool)
    valid[:20, :24] = False

    def __init__(self):
        super().__init__()
        for target in self.targets.values():
            target[~self.valid] = IGNORE

    def read(self, record):
        return Sample(record.image_id, self.images[record.image_id], valid=self.valid)

    def read_target(self, record):
        target = super().read_target(record).copy()
        target[:10, :24], target[10:20, :24] = 1, 77
        return target


def test_nodata_pixels_are_not_scored(tmp_path):
    truth = Holes()
    store = make(tmp_path / "s", truth, lambda c, *_: c)
    found = evaluate(store, truth)
    for rating in ("labels", "oracle"):
        assert found.ratings[rating].everywhere.OA == 1
        assert found.ratings[rating].coverage == 1
    shown = 3 * (38 * 48 - 20 * 24)  # the last two rows have no class
    assert found.clusters.counts.sum() == shown
    assert found.ratings["binary"].coverage == 1
    assert found.masks.coverage == pytest.approx(shown / (3 * (40 * 48 - 20 * 24)))
    html = write_evaluation(store, truth, found).read_text()
    assert html.count("no data, which is not compared") == 1


def test_unusable_ground_truth_is_reported_counted_and_skipped(tmp_path, caplog):
    truth = Truth(n=4)
    store = make(tmp_path / "s", truth, lambda c, *_: c)
    truth.targets["val/0"] = "truncated"
    truth.targets["val/1"] = truth.targets["val/1"][:30]
    truth.targets["val/2"] = truth.targets["val/2"].clip(None, G) * 2
    found = evaluate(store, truth)
    assert found.images == {"train": 4, "val": 1}
    assert found.ratings["labels"].everywhere.OA == 1
    assert list(found.skipped) == ["val/0", "val/1", "val/2"]
    for reason, message in zip(
        found.skipped.values(),
        (
            "cannot read /data/of/someone/val/0.png: truncated",
            "val/1.png is 48 x 30 pixels, expected 48 x 40, the size of the image when it was "
            "labelled; ",
            "val/2.png contains the class 8, expected 0 to 3 or 255 (ignored); ",
        ),
        strict=True,
    ):
        assert message in reason
        assert sum(reason in record.getMessage() for record in caplog.records) == 1
    assert json.loads(evaluation_to_json(found))["skipped"] == ["val/0", "val/1", "val/2"]
    html = write_evaluation(store, truth, found).read_text()
    assert "cannot read val/0.png: truncated" in html
    assert "3 skipped" in html


def test_an_evaluation_without_usable_ground_truth_is_an_error(tmp_path):
    truth = Truth(n=2)
    store = make(tmp_path / "s", truth, lambda c, *_: c)
    truth.targets |= {"val/0": "gone", "val/1": "gone"}
    message = "none of the 2 images of val can be compared .* the first: cannot read .*gone"
    with pytest.raises(LabelError, match=message):
        evaluate(store, truth)
