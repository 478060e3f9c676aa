"""No-data in the report: its own colour and figures, and coverage is a share of the data."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from tiny_stores import make_store, some_scenes

from alps.report import write_report
from alps.report.counts.statistics import compute_statistics
from alps.report.pages.statistics import tables, write_statistics
from alps.report.pictures.album import make_album
from alps.report.pictures.drawing import NODATA, draw_nodata, shrink_valid
from alps.structures.masks import Masks
from alps.structures.palette import distinct_colors

pytestmark = pytest.mark.pictures

SIZE = (20, 30)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five images: in one the left third is no data, in one everything."""
    scenes = some_scenes(4)
    scenes["nothing"] = (np.zeros((*SIZE, 3), np.uint8), Masks.empty(SIZE))
    left = np.ones(SIZE, bool)
    left[:, :10] = False
    valid = {"part0/scene_00": left, "nothing": np.zeros(SIZE, bool)}
    root = tmp_path_factory.mktemp("nodata") / "s"
    store, images = make_store(root, scenes, valid=valid)
    return store, images, compute_statistics(store)


def test_no_data_is_counted_separately(made):
    store, _, statistics = made
    assert (statistics.nodata, statistics.pixels) == (200 + 600, 3 * 600 + 400)
    assert (statistics.nodata_images, statistics.blank) == (2, 1)
    assert np.flatnonzero(statistics.nodata_fractions).tolist() == [6, 19]  # a third, all
    assert statistics.coverages.sum() == 4  # of the other nothing could be covered
    (status,) = [
        s
        for s in store.shard(0).images() + store.shard(1).images()
        if s.image_id == "part0/scene_00"
    ]
    assert status.coverage == status.covered / 400
    assert status.coverage in [s.coverage for s in statistics.lowest]


def test_the_page_says_what_is_no_data(made):
    store, images, statistics = made
    html = write_report(store, images, statistics=statistics).read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", html.partition("<body>")[2]).split())
    assert "no data 26.7% of all pixels, in 2 images, 1 of them without data" in words
    share = 100 * statistics.covered / statistics.pixels
    assert f"coverage {share:.1f}% of the pixels with data are in a mask" in words
    assert "image size 30 \N{MULTIPLICATION SIGN} 20 0.003 megapixels" in words
    assert "empty: all of its pixels are no data" in words
    assert "covered, 33.3% no data" in words
    assert "40% of the images have no-data pixels, 20% have nothing else." in words
    assert "255 is unlabelled or no data" in words
    assert html.count('class="swatch nodata"') == 1


def test_a_store_without_no_data_does_not_speak_of_it(tmp_path):
    store, images = make_store(tmp_path / "s", some_scenes(3))
    statistics = compute_statistics(store)
    html = write_report(store, images, statistics=statistics).read_text()
    assert "no data" not in html
    assert "of all pixels are in a mask" in html
    assert "nodata" not in tables(statistics, store.categories())


def test_the_statistics_have_a_table_and_a_picture(made):
    store, _, statistics = made
    write_statistics(store, statistics)
    header, rows = tables(statistics, store.categories())["nodata"]
    assert header == ("share_from", "share_to", "images")
    assert [row[2] for row in rows if row[2]] == [1, 1]
    assert (store.root / "statistics/nodata.png").read_bytes().startswith(b"\x89PNG")


def test_no_data_has_a_colour_of_its_own_in_every_picture(made):
    store, images, statistics = made
    album = make_album(store, images, statistics, distinct_colors(5))
    (shown,) = [s for s in album.images if s.status.valid is not None]
    for uri in (shown.masks, shown.classes):
        data = base64.b64decode(uri.partition("base64,")[2])
        with Image.open(io.BytesIO(data)) as picture:
            left = np.asarray(picture.convert("RGB"))[:, :36].astype(int)
        far = np.abs(left[..., None, :] - np.array(NODATA)).max(-1).min(-1)
        assert far.mean() < 6  # lossy, the squares' edges most
    assert sum(share for _, share in shown.key) <= 1


def test_squares_lie_where_the_centres_of_the_pixels_have_no_data():
    picture = np.zeros((40, 60, 3), np.uint8)
    valid = np.ones(SIZE, bool)
    valid[:, :10] = False
    drawn = draw_nodata(picture, shrink_valid(valid, (40, 60)))
    assert {*map(tuple, drawn[:, :20].reshape(-1, 3).tolist())} == {*NODATA}
    assert not drawn[:, 20:].any()
    assert draw_nodata(picture, shrink_valid(None, (40, 60))) is picture
    assert not {*NODATA} & {*distinct_colors(1000)}
