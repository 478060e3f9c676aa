"""A store against ground truth: what good, bad and renamed labels score, and what is written."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alps import report
from alps.assign.cluster import cluster_categories
from alps.cli.summary import print_evaluation
from alps.errors import LabelError, StoreError
from alps.evaluation import pseudo_labels as evaluation
from alps.evaluation.pseudo_labels import evaluate, evaluation_to_json
from alps.labelling.shard import assign_shard, label_shard
from alps.metrics.clustering import scores
from alps.metrics.masks import find_regions, oracle, region_masks
from alps.report import write_evaluation, write_report
from alps.report.pictures.drawing import draw_errors, shrink_classes
from alps.store.claims import Claims
from alps.store.label_store import LabelStore
from alps.store.manifest import sha256, write_manifest
from alps.store.plan import prepare
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, ImageRecord, Sample
from tests.factories import create_folder_pair, draw_labels

G, IGNORE = 4, 255
NAMES = ("ground", "roof", "road", "tree")


class Truth:
    """Scenes with ground truth in memory; a target that is a string cannot be used."""

    name, root, ignore_index, protocol = "scenes", "/data/of/someone", IGNORE, "scenes: 4 classes"

    def __init__(self, splits=("train", "val"), n=3):
        self.images, self.targets = {}, {}
        for s, split in enumerate(splits):
            for i in range(n):
                image, target = draw_labels((40, 48), 10 * s + i, G)
                target[-2:] = IGNORE
                self.images[f"{split}/{i}"], self.targets[f"{split}/{i}"] = image, target

    def records(self):
        return [ImageRecord(i, f"{i}.png", split=i.split("/")[0]) for i in self.images]

    def read(self, record):
        return Sample(record.image_id, self.images[record.image_id])

    def categories(self):
        colors = distinct_colors(G)
        return [Category(i, name, colors[i]) for i, name in enumerate(NAMES)]

    def read_target(self, record):
        target = self.targets[record.image_id]
        if isinstance(target, str):
            raise LabelError(f"cannot read {self.root}/{record.file_name}: {target}")
        return target


class Regions:
    """The masks are the regions of the ground truth."""

    identity = {"source": "regions"}  # noqa: RUF012 - read only

    def __init__(self, truth):
        self.truth = truth

    def prefetch(self, samples):
        """Nothing is slow here."""

    def __call__(self, sample):
        return region_masks(find_regions(self.truth.targets[sample.image_id], IGNORE), 0)


class Given:
    """A mask gets the cluster that a function makes of its class and its image."""

    identity = {"assigner": "given"}  # noqa: RUF012 - read only

    def __init__(self, truth, k, cluster):
        self.truth, self.num_classes, self.cluster = truth, k, cluster

    def fit(self, blocks, areas):
        return None

    def assign(self, features, clusters, image_id, masks):
        target = self.truth.targets[image_id]
        masks = region_masks(find_regions(target, IGNORE), 0)
        classes = oracle(masks, target, G, IGNORE)
        ids = [self.cluster(c, image_id, i) for i, c in enumerate(classes)]
        return np.array(ids, np.int32), np.full(len(ids), np.nan, np.float32)

    def paint(self, masks, category_id, ignore_index):
        return paint(masks, category_id, ignore_index)

    def categories(self):
        return cluster_categories(self.num_classes)


def make(root, truth, cluster, k=G, overwrite=None):
    """Make a store with labels as `label` does, without its report, which takes longer."""
    masks, assign = Regions(truth), Given(truth, k, cluster)
    store = prepare(
        root,
        name="scenes_pl",
        images={"root": truth.root},
        records=truth.records(),
        identities={"masks": masks.identity, "assign": assign.identity},
        num_classes=k,
        ignore_index=IGNORE,
        versions={},
        shard_size=2,
        overwrite=overwrite,
    )
    store.write_categories(assign.categories())
    for shard in range(len(store.plan)):
        for _ in label_shard(shard, store=store, image_set=truth, masks=masks, features=None):
            pass
        assign_shard(shard, store=store, assign=assign, clusters=None)
    return store


def by_lot(k):
    rng = np.random.default_rng(0)
    return lambda c, image_id, i: int(rng.integers(k))


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


@pytest.mark.parametrize(
    ("n", "good", "expected"),
    [
        (10, True, []),
        (1, True, ["Only 1 image was compared: the scores say little about other images."]),
        (
            2,
            False,
            [
                r"These labels are no better than random clusters of the same masks \(accuracy "
                r"0.0% against [\d.]+%, mIoU 0.0% against [\d.]+%\): do not use them for these "
                r"classes.",
                "Only 2 images were compared: the scores say little about other images.",
            ],
        ),
    ],
)
def test_caveats_are_in_page_json_and_terminal(tmp_path, capsys, n, good, expected):
    truth = Truth(n=n)

    def turned(c, image_id, i):
        return int(c) if good or image_id.startswith("train") else (int(c) + 1) % G

    store = make(tmp_path / "s", truth, turned)
    found = evaluate(store, truth)
    html = write_evaluation(store, truth, found).read_text()
    told = json.loads((store.root / "evaluation.json").read_text())["caveats"]
    assert len(told) == len(expected)
    print_evaluation(found, store)
    printed = capsys.readouterr().out
    for sentence, pattern in zip(told, expected, strict=True):
        assert re.fullmatch(pattern, sentence)
        assert sentence in html
        assert sentence in printed


def test_a_mean_over_some_classes_states_their_number(tmp_path, capsys):
    store = make(tmp_path / "s", truth := Truth(), by_lot(4), 4)
    found = evaluate(store, truth)
    print_evaluation(found, store)
    assert "mIoU is a mean" not in capsys.readouterr().out
    rating = found.ratings["labels"]
    scores = replace(rating.everywhere, iou=(math.nan, *rating.everywhere.iou[1:]))
    ratings = {**found.ratings, "labels": replace(rating, everywhere=scores)}
    print_evaluation(replace(found, ratings=ratings), store)
    assert f"mIoU is a mean over {G - 1} of {G} classes" in capsys.readouterr().out


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


def test_evaluating_twice_writes_the_same_bytes(tmp_path):
    truth = Truth()
    store = make(tmp_path / "s", truth, by_lot(6), 6)
    first = [write_evaluation(store, truth, evaluate(store, truth)).read_bytes()]
    first.append((store.root / "evaluation.json").read_bytes())
    again = [write_evaluation(store, truth, evaluate(store, truth)).read_bytes()]
    again.append((store.root / "evaluation.json").read_bytes())
    assert first == again
    assert all(str(tmp_path).encode() not in text for text in first)
    assert all(Truth.root.encode() not in text for text in first)


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


def test_page_and_json_have_the_same_numbers(tmp_path):
    truth = Truth()
    store = make(tmp_path / "s", truth, by_lot(7), 7)
    found = evaluate(store, truth)
    html = write_evaluation(store, truth, found).read_text()
    content = json.loads((store.root / "evaluation.json").read_text())
    words = " ".join(re.sub(r"<[^>]*>", " ", html.partition("<body>")[2]).split())
    for name, title in (("labels", "these labels"), ("random", "random clusters")):
        rating = content["ratings"][name]
        shown = [
            *(rating["everywhere"]["OA"], rating["covered"]["OA"], rating["everywhere"]["mIoU"]),
            *(rating["covered"]["mIoU"], rating["one_to_one"]),
            *(rating["agreement"][x] for x in ("purity", "homogeneity", "completeness")),
            *(rating["agreement"]["nmi"], rating["agreement"]["ari"], rating["coverage"]),
        ]
        assert f"{title} {' '.join(f'{100 * value:.1f}%' for value in shown)}" in words
    for c, name in enumerate(NAMES):
        everywhere = content["ratings"]["labels"]["everywhere"]
        row = f"{100 * everywhere['accuracy'][c]:.1f}% {100 * everywhere['iou'][c]:.1f}%"
        assert re.search(rf"{name} [\d.]+% {re.escape(row)}", words)
    for image_id in {*content["best"], *content["worst"]}:
        assert image_id in words
    assert "determined on the 3 images of train, and the scores are computed only on" in words
    table = np.array(content["cluster_pixels"])
    assert (
        pytest.approx(
            sum(table[k, c] for k, c in enumerate(content["cluster_classes"]))
            / (table.sum() + sum(content["unlabelled_pixels"]))
        )
        == scores(found.clusters, found.mapping).OA
    )
    assert "<script" not in html
    assert not re.search(r"https?://", html)
    assert set(re.findall(r'href="([^#"][^"]*)"', html)) == {"report.html"}
    anchors = set(re.findall(r'href="#(\w+)"', html))
    assert anchors <= set(re.findall(r'id="(\w+)"', html))


def test_names_are_escaped_and_long_cluster_lists_are_truncated(tmp_path, monkeypatch):
    monkeypatch.setattr("alps.report.pages.confusion.CLUSTERS", 5)
    truth = Truth()
    truth.categories = lambda: [Category(i, f"<b>{i}", (i, 0, 0)) for i in range(G)]
    store = make(tmp_path / "s", truth, lambda c, image_id, i: i, 90)
    html = write_evaluation(store, truth, evaluate(store, truth)).read_text()
    assert "&lt;b&gt;2" in html
    assert "<b>2" not in html
    used = int(evaluate(store, truth).clusters.counts.any(axis=1).sum())
    assert f"the 5 largest of {used} clusters" in html
    assert html.split('class="heat"')[1].split("</table>")[0].count("cluster_") == 5


def test_the_report_links_to_the_page_and_a_redo_removes_the_page(tmp_path):
    truth = Truth(n=1)
    store = make(tmp_path / "s", truth, lambda c, *_: c)
    write_evaluation(store, truth, evaluate(store, truth))
    assert 'href="evaluation.html"' in write_report(store, truth).read_text()
    write_manifest(store)
    files = json.loads((store.root / "manifest.json").read_text())["files"]
    assert files["evaluation.json"]["sha256"] == sha256(store.root / "evaluation.json")
    assert "evaluation.html" in files
    make(tmp_path / "s", truth, by_lot(G), overwrite="assign")
    assert not (store.root / "evaluation.html").exists()
    assert not (store.root / "evaluation.json").exists()


def test_pictures_mark_wrong_and_unlabelled_pixels():
    maps = np.array([[0, 1, -1, 1], [0, 2, 1, -1]], np.int32)  # labels, truth
    labels, target = (
        shrink_classes(np.repeat(np.repeat([row] * 4, 5, 0), 5, 1), (8, 8)) for row in maps
    )
    picture = draw_errors(np.full((8, 8, 3), 100, np.uint8), labels, target)
    assert labels[0].tolist() == [0, 0, 1, 1, -1, -1, 1, 1]
    assert (picture[:, :2] == 140).all()  # right: gray
    assert (picture[:, 2:4] == np.array([179, 68, 59])).all()  # wrong: red
    assert set(np.unique(picture[:, 4:6])) == {78, 108}  # no label: hatched
    assert (picture[:, 6:] == 0).all()  # no truth: black


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["+dataset=samrs", "evaluate=true"],
            "evaluate=true compares with the ground truth, but dataset=samrs has none; "
            r"expected \+dataset=atlas2023\|coco\|fast\|folder_pair\|.*\|vectors\|video, or "
            "omit evaluate",
        ),
        (["+dataset=potsdam", "evaluate=val"], "evaluate=val: expected true or false"),
    ],
)
def test_evaluation_without_ground_truth_is_refused_before_labelling(
    arguments, message, tmp_path, label
):
    done = label(*arguments)
    assert done.returncode == 1
    assert re.fullmatch(f"error: {message}\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_label_py_evaluates_an_existing_store(tmp_path, label):
    create_folder_pair(tmp_path / "pair", n=2, size=(40, 48))
    make(tmp_path / "masks", Truth(n=2), by_lot(G))
    command = [
        *("+dataset=folder_pair", "dataset.root=pair", "dataset.name=tiny", "recipe=random"),
        *("masks=stored", "masks.store=masks", "assign.k=3", "engine.threads=1"),
    ]
    done = label(*command)
    assert done.returncode == 0, done.stderr
    store = tmp_path / "data/tiny_pl"
    labels = {p: p.read_bytes() for p in store.rglob("*.*") if p.suffix in (".png", ".parquet")}
    config = (store / "config.yaml").read_text()
    assert "evaluate" not in config

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "pair/ann_dir/val/1.png")
    done = label(*command, "evaluate=true")
    assert done.returncode == 0, done.stderr
    assert "the ground truth of img_dir/val/1.jpg is 8 x 8 pixels" in done.stderr
    for words in (
        "against 4 classes",
        "oracle",
        "mapped to classes on train and scored on val",
        "\n1 image could",
    ):
        assert words in done.stdout
    assert "data/tiny_pl/evaluation.html" in done.stdout
    assert {p: p.read_bytes() for p in labels} == labels
    assert (store / "config.yaml").read_text() == config
    assert 'href="evaluation.html"' in (store / "report.html").read_text()
    assert not (store / ".tmp").exists()
    files = json.loads((store / "manifest.json").read_text())["files"]
    assert files["report.html"]["sha256"] == sha256(store / "report.html")
    assert json.loads((store / "evaluation.json").read_text())["images"] == {"train": 2, "val": 1}

    # Killed between its pages: the manifest goes first and comes last.
    whole = {p: p.read_bytes() for p in store.rglob("*.*")}
    for name in ("manifest.json", "evaluation.html"):
        (store / name).unlink()
    (store / ".tmp").mkdir()
    (store / ".tmp/1-evaluation.html").write_text("<html>ha")
    done = label(*command, "evaluate=true")
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in store.rglob("*.*")} == whole


def test_an_evaluating_run_holds_a_claim(tmp_path, label, monkeypatch):
    """overwrite= or verify= beside it would delete what it reads."""
    create_folder_pair(tmp_path / "pair", n=2, size=(40, 48))
    make(tmp_path / "masks", Truth(n=2), by_lot(G))
    seen = {}

    def watch(module, name):
        function = getattr(module, name)

        def watched(store, *rest):
            with Claims(store.root) as claims, pytest.raises(StoreError, match=r"another run uses"):
                claims.require_exclusive("verify the store")
            seen[name] = True
            return function(store, *rest)

        monkeypatch.setattr(module, name, watched)

    watch(evaluation, "evaluate")
    watch(report, "write_choose_k")
    done = label(
        *("+dataset=folder_pair", "dataset.root=pair", "dataset.name=tiny", "masks=stored"),
        *("masks.store=masks", "features=shape", "assign.k=3", "engine.threads=1"),
        *("evaluate=true", "choose_k=[2,3]"),
    )
    assert done.returncode == 0, done.stderr
    assert seen == {"evaluate": True, "write_choose_k": True}
    assert not (tmp_path / "data/tiny_pl/.claims").exists()
