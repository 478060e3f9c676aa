import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tiny_stores import Scenes, draw, make_store, some_scenes, write_labels

from alps.report import write_report
from alps.report.counts.statistics import compute_statistics
from alps.report.pictures import album
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.paint import count_covered
from alps.structures.palette import distinct_colors
from alps.structures.records import Category

pytestmark = pytest.mark.pictures

ADDRESSES = {"src", "href", "xlink:href", "srcset", "action", "data"}
VOID = {"meta", "img", "link", "br", "hr", "input", "path", "rect"}


class Page(HTMLParser):
    """Checks what a browser forgives, and collects text, addresses and pictures."""

    def __init__(self, path):
        super().__init__()
        self.open, self.text, self.addresses, self.tags = [], [], [], []
        html = path.read_text()
        assert html.startswith("<!doctype html>")
        self.feed(html)
        self.close()
        assert not self.open
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ADDRESSES]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def report(store, scenes):
    return Page(write_report(store, scenes))


def test_the_figures_are_those_of_the_store(tmp_path):
    scenes = some_scenes()
    scenes["nothing"] = (np.zeros((20, 30, 3), np.uint8), Masks.empty((20, 30)))
    store, images = make_store(tmp_path / "tiny_pl", scenes, failed={"bad": "truncated"})
    page = report(store, images)
    n = sum(len(m) for _, m in scenes.values())
    share = sum(count_covered(m) for _, m in scenes.values()) / (8 * 20 * 30)
    assert "images 9 7 ok, 1 empty, 1 failed" in page.words
    assert f"masks {n} half below" in page.words
    assert f"masks per image {n / 8:.3g} median 4, most 4" in page.words
    assert f"coverage {100 * share:.1f}% of all pixels" in page.words
    assert "image size 30 \N{MULTIPLICATION SIGN} 20 0.0048 megapixels" in page.words
    assert "classes 5 of 5 have masks" in page.words
    labels = np.concatenate([store.shard(s).labels()[0] for s in range(len(store.plan))])
    for c in range(5):
        of_class = int((labels == c).sum())
        assert f"thing_{c} id {c} masks {of_class} ({100 * of_class / n:.1f}".rstrip("0") in re.sub(
            r"\.0%", "%", page.words
        )
    assert "failed: truncated" in page.words
    assert "empty: no mask was found" in page.words
    assert "points_per_side 8" in page.words
    assert store.info.stages["masks"]["fingerprint"] in page.words
    assert "dataset=store dataset.root=tiny_pl" in page.words
    assert "255 is unlabelled" in page.words


def test_the_page_needs_nothing_else(tmp_path):
    page = report(*make_store(tmp_path / "s", some_scenes()))
    inside = ("data:image/webp;base64,", "data:image/png;base64,", "#")
    assert all(a.startswith(inside) for a in page.addresses)
    assert "script" not in page.tags
    html = (tmp_path / "s/report.html").read_text()
    assert "url(" not in html
    assert "@import" not in html
    assert "http:" not in html.replace("http-equiv", "")
    assert "https:" not in html
    anchors = {a[1:] for a in page.addresses if a.startswith("#")}
    assert anchors
    assert anchors <= set(re.findall(r'id="(\w+)"', html))


def test_the_same_store_gives_the_same_bytes_anywhere(tmp_path):
    store, images = make_store(tmp_path / "here/s", some_scenes())
    first = write_report(store, images).read_bytes()
    assert write_report(store, images).read_bytes() == first
    shutil.copytree(tmp_path / "here/s", tmp_path / "there/s")
    assert write_report(LabelStore(tmp_path / "there/s"), images).read_bytes() == first
    assert str(tmp_path).encode() not in first
    assert Scenes.root.encode() not in first
    assert b"/opt/w" not in first


def test_errors_keep_file_names_but_no_folders(tmp_path):
    errors = {
        "a": f"cannot read {Scenes.root}/sub/a.png: truncated",
        "b": "OSError: '/home/me/cache/b.png' and/or https://example.org/x/y",
    }
    page = report(*make_store(tmp_path / "s", some_scenes(), failed=errors))
    assert "cannot read sub/a.png: truncated" in page.words
    assert "OSError: '…/b.png' and/or https://example.org/x/y" in page.words
    assert "/home" not in page.words


def test_what_others_named_is_escaped(tmp_path):
    bad = "<script>alert(1)</script>"
    scenes = {bad + str(i): scene for i, scene in enumerate(some_scenes(3).values())}
    store, images = make_store(
        tmp_path / "a b$(x)", scenes, failed={"x<b>": f'"{bad}'}, name=f"<img src=x>{bad}"
    )
    store.write_categories([Category(i, f'"><i>{bad}', (1, 2, 3)) for i in range(5)])
    page = report(store, images)
    assert "script" not in page.tags
    assert "b" in page.tags  # the page's own, once
    assert page.tags.count("b") == 1
    assert page.words.count(bad) > 10
    assert "dataset.root='a b$(x)'" in page.words


CASES = {
    "one image": {"scenes": some_scenes(1)},
    "one mask": {"scenes": some_scenes(1, masks=1)},
    "one class": {"scenes": some_scenes(3), "k": 1},
    "more classes than masks": {"scenes": some_scenes(1), "k": 40},
    "sixteen bits": {"scenes": some_scenes(4), "k": 300},
    "classes given": {"scenes": some_scenes(4), "assign": "category"},
    "no classes": {"scenes": some_scenes(4), "assign": None},
    "no masks": {"scenes": {"a": (np.zeros((9, 9, 3), np.uint8), Masks.empty((9, 9)))}},
    "no images": {"scenes": {}, "failed": {f"x{i:03d}": "broken" for i in range(70)}},
    "one pixel": {
        "scenes": {"a": (np.zeros((1, 1, 3), np.uint8), Masks.from_array(np.ones((1, 1, 1), bool)))}
    },
    "a strip": {"scenes": some_scenes(2, size=(9, 900))},
    "a column": {"scenes": some_scenes(2, size=(900, 9))},
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_store_has_a_page(tmp_path, case):
    page = report(*make_store(tmp_path / "s", **CASES[case]))
    says = {
        "sixteen bits": "0 to 299 are classes, 65535 is unlabelled",
        "classes given": "classes come from annotations",
        "no classes": "unlabelled images, without classes",
        "no masks": "no image has a mask",
        "no images": "and 20 more",
        "more classes than masks": "of 40 have masks",
    }
    assert says.get(case, "id 0" if case == "one class" else "have masks") in page.words
    assert ("nearest to the centroid" in page.words) == (
        case not in ("classes given", "no classes", "no masks", "no images")
    )
    assert ("train.py" in page.words) == (case != "no classes")


def test_images_that_are_gone_or_changed_are_not_shown(tmp_path):
    store, images = make_store(tmp_path / "s", some_scenes(5))
    ids = list(images.images)
    images.missing = ids[:1]
    images.images[ids[1]] = np.zeros((3, 3, 3), np.uint8)
    page = report(store, images)
    assert "3 of 5 images with masks" in page.words
    assert "could not be read or have changed since labelling: 2." in page.words


def test_unlabelled_masks_are_counted(tmp_path):
    store, images = make_store(tmp_path / "s", some_scenes(2))
    write_labels(store, 0, np.array([-1, -1, 0, 1, 2, 3, 4, 0]))
    assert "classes 5 of 5 have masks, 2 masks have no class" in report(store, images).words


def test_pictures_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(album, "READ", 9)
    store, images = make_store(tmp_path / "s", some_scenes(14), k=9)
    path = write_report(store, images)
    assert images.n_read == 9
    pictures = 3 * album.IMAGES + album.CLASSES * album.CUTOUTS
    assert Page(path).tags.count("img") <= pictures


def test_the_size_is_bounded_even_for_noise(tmp_path):
    rng = np.random.default_rng(0)
    path = write_report(*make_store(tmp_path / "s", {"noise": draw(rng, (640, 640), 20)}, k=2))
    uris = [a for a in Page(path).addresses if a.startswith("data:")]
    n_bytes = [len(base64.b64decode(uri.partition(",")[2])) for uri in uris]
    pictures, cutouts = n_bytes[:3], n_bytes[3:-3]
    assert 40_000 < pictures[0] <= album.PICTURE_BYTES
    assert max(pictures) <= album.PICTURE_BYTES
    assert max(cutouts) <= album.CUTOUT_BYTES
    without = path.stat().st_size - sum(n_bytes) * 4 / 3
    most = 3 * album.IMAGES * album.PICTURE_BYTES
    most += album.CLASSES * album.CUTOUTS * album.CUTOUT_BYTES
    assert without < 60_000
    assert most * 4 / 3 + 10 * without < 4_000_000


def test_strips_run_from_near_to_far(tmp_path):
    store, images = make_store(tmp_path / "s", some_scenes(12), k=2)
    drawn = album.make_album(store, images, compute_statistics(store), distinct_colors(2))
    labels = (store.shard(number).labels() for number in range(4))
    category, distance = (np.concatenate(x) for x in zip(*labels, strict=True))
    for c, strip in drawn.strips.items():
        far = [cut.distance for cut in strip]
        assert far == sorted(far)
        assert len(far) == album.CUTOUTS
        assert far[0] == distance[category == c].min()
        assert far[-1] == distance[category == c].max()


def test_pictures_are_those_of_the_images(tmp_path):
    scenes = {
        "flat": (
            np.full((64, 64, 3), (200, 30, 30), np.uint8),
            draw(np.random.default_rng(0), (64, 64), 4)[1],
        )
    }
    store, images = make_store(tmp_path / "s", scenes)
    shown = album.make_album(store, images, compute_statistics(store), distinct_colors(5)).images[0]
    data = base64.b64decode(shown.image.partition("base64,")[2])
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert picture.shape == (256, 256, 3)
    assert np.abs(picture.astype(int) - (200, 30, 30)).max() < 12
