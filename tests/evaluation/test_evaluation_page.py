"""The page, JSON and terminal output of an evaluation."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from alps.cli.summary import print_evaluation
from alps.evaluation.pseudo_labels import evaluate
from alps.metrics.clustering import scores
from alps.report import write_evaluation, write_report
from alps.report.pictures.drawing import draw_errors, shrink_classes
from alps.store.manifest import sha256, write_manifest
from alps.structures.records import Category
from tests.evaluation.scenes import NAMES, G, Truth, by_lot, make


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
