"""The page on the number of classes."""

import csv
import json

import pytest
from PIL import Image
from test_report import Page
from tiny_stores import make_store, some_scenes

from alps.assign.choose_k import Choice, favoured
from alps.assign.cluster import Cluster
from alps.errors import TooFewMasks
from alps.report.pages.choose_k import score_charts, write_choose_k

pytestmark = pytest.mark.pictures


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_page_the_table_and_the_picture_say_the_same(tmp_path):
    store, _ = make_store(tmp_path / "s", some_scenes(4), k=5)
    before = files(store.root)
    choices = write_choose_k(store, Cluster(k=5, niter=2), [4, 2, 5, 4])
    assert [choice.k for choice in choices] == [2, 4, 5]
    after = files(store.root)
    new = {"choose_k.html", *(f"statistics/choose_k.{end}" for end in ("csv", "json", "png"))}
    assert after.keys() - before.keys() == new
    assert {name: after[name] for name in before} == before

    page = Page(store.root / "choose_k.html")
    assert [a for a in page.addresses if a[0] != "#"] == ["report.html"]
    assert "on 16 masks" in page.words
    assert "5 (this store)" in page.words
    for row, choice in zip(
        csv.DictReader(after["statistics/choose_k.csv"].decode().splitlines()),
        choices,
        strict=True,
    ):
        assert int(row["k"]) == choice.k
        for figure in ("inertia", "silhouette", "stability"):
            assert float(row[figure]) == pytest.approx(getattr(choice, figure), rel=1e-4)
            assert f"{getattr(choice, figure):.3g}" in page.words
    with Image.open(store.root / "statistics/choose_k.png") as image:
        assert image.size == (2100, 640)

    told = json.loads(after["statistics/choose_k.json"])
    best = favoured(choices)
    assert (told["elbow"], told["silhouette"], told["stability"]) == tuple(best.values())
    assert ("no clear elbow" in page.words) == (best["inertia"] is None)

    write_choose_k(store, Cluster(k=5, niter=2), [2, 4, 5])
    assert files(store.root) == after


def test_a_page_of_masks_without_groups_says_so(tmp_path, monkeypatch):
    store, _ = make_store(tmp_path / "s", some_scenes(1))
    flat = [Choice(k, 64.0 / k, 0.02, 0.5) for k in (2, 4, 8)]
    monkeypatch.setattr("alps.report.pages.choose_k.compare_k", lambda *a, **b: iter(flat))
    write_choose_k(store, Cluster(), [2, 4, 8])
    page = Page(store.root / "choose_k.html")
    assert "The inertia has no clear elbow" in page.words
    assert "at least 0.1 of the height of the curve, and its silhouette at least 0.25" in page.words
    told = json.loads((store.root / "statistics/choose_k.json").read_text())
    assert (told["elbow"], told["silhouette"]) == (None, 2)


def test_too_few_masks_are_told_at_once(tmp_path, monkeypatch):
    store, _ = make_store(tmp_path / "s", some_scenes(1))
    fitted = []
    fit = Cluster.fit
    monkeypatch.setattr(Cluster, "fit", lambda self, *a: fitted.append(self.k) or fit(self, *a))
    with pytest.raises(TooFewMasks, match="4 masks cannot form 9 clusters"):
        write_choose_k(store, Cluster(), [2, 3, 9])
    assert fitted == [9]


def test_scores_that_are_not_finite_are_skipped():
    nan = float("nan")
    inertia, silhouette, stability = score_charts(
        [Choice(2, 9.0, nan, -0.1), Choice(8, 1.0, nan, nan)]
    )
    assert [(p.x, p.y) for p in inertia.points] == [(2, 9), (8, 1)]
    assert not any(p.favoured for p in inertia.points)  # two points have no elbow
    assert silhouette.points == []
    assert [(p.x, p.y) for p in stability.points] == [(2, -0.1)]
    assert stability.points[0].favoured
    assert stability.ticks == [2, 8]
