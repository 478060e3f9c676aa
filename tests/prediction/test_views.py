"""Rasters are predicted from the pixels that training would read from them."""

import json

import numpy as np
import pytest
import rasterio

from alps.errors import ConfigError, ImageError
from alps.images import Rasters
from alps.prediction.files import Counts, Predictor
from alps.prediction.sliding import SlidingWindow
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.structures.palette import distinct_colors
from alps.structures.records import Category
from tests.factories import create_image
from tests.geo_rasters import create_geo_raster, draw_bands

S2 = ["B02", "B03", "B04", "B08"]
CATEGORIES = [Category(i, f"class {i}", color) for i, color in enumerate(distinct_colors(3))]


class Recorder:
    """A net that keeps its last input."""

    def __call__(self, image):
        self.image = image[0].numpy()
        return image.float()


def predictor(view, net=None, **options):
    return Predictor(
        net=net or Recorder(),
        window=SlidingWindow(crop=512),
        categories=CATEGORIES,
        weights="ab" * 32,
        view=view,
        **options,
    )


def create(path, seed=0, order=(0, 1, 2, 3), **options):
    """A raster of 64 × 96 pixels of 0.5 m, with its bands in another order."""
    bands = draw_bands(4, seed=seed)[[*order]]
    create_geo_raster(path, bands, descriptions=[S2[i] for i in order], **options)


def check_pixels(folder, images, band_names=None):
    """Compare what a net sees in prediction with what each window has in training."""
    net, view = Recorder(), View.from_json(images.view)
    predict = predictor(view, net, band_names=band_names)
    records = images.records()
    assert len(records) > 2
    for record in records:
        predict.file(folder / record.file_name)
        sample, tile = images.read(record), record.window
        pixels = sample.image.transpose(2, 0, 1) if band_names is None else sample.bands
        assert pixels.std() > 1
        seen = net.image[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
        np.testing.assert_array_equal(seen, pixels)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gsd": 0.8},
        {"gsd": 0.3},
        {"stretch": "image"},
        {"stretch": [[0.0, 3000.0], [100.0, 900.0], [0.0, 2000.0]]},
        {"rgb": [4, 3, 2]},
        {"rgb": ["b08"]},
    ],
    ids=str,
)
def test_the_net_sees_what_it_was_trained_on(tmp_path, settings):
    for i in range(3):
        create(tmp_path / f"{i}.tif", seed=i, nodata=0)
    images = Rasters(root=str(tmp_path), window=48, overlap=8, **settings)
    assert ("limits" in images.view) == (settings.get("stretch") != "image")
    check_pixels(tmp_path, images)


def test_bands_are_found_by_description(tmp_path):
    create(tmp_path / "0.tif", nodata=0)
    create(tmp_path / "1.tif", nodata=0, order=(3, 2, 0, 1))
    images = Rasters(root=str(tmp_path), window=48, overlap=8)
    check_pixels(tmp_path, images)
    first, second = Recorder(), Recorder()
    predictor(View.from_json(images.view), first).file(tmp_path / "0.tif")
    predictor(View.from_json(images.view), second).file(tmp_path / "1.tif")
    np.testing.assert_array_equal(first.image, second.image)


def test_bands_of_networks_are_resampled(tmp_path):
    create(tmp_path / "0.tif")
    create(tmp_path / "1.tif", seed=1)
    images = Rasters(root=str(tmp_path), window=32, overlap=8, bands=["B08", 1, "B03"], gsd=0.8)
    assert images.band_names == ("B08", "B02", "B03")
    check_pixels(tmp_path, images, images.band_names)


def test_assets_are_found_by_description(tmp_path):
    """A net that was trained on assets of a STAC item predicts files with bands of these names."""
    create(tmp_path / "a.tif")
    view = View(rgb=("B04", "B03", "B02"), limits=((0.0, 3000.0),), assets=("B04", "B03", "B02"))
    first, second = Recorder(), Recorder()
    predictor(view, first).file(tmp_path / "a.tif")
    predictor(View(rgb=view.rgb, limits=view.limits), second).file(tmp_path / "a.tif")
    np.testing.assert_array_equal(first.image, second.image)
    create_geo_raster(tmp_path / "gray.tif", draw_bands(1))
    with pytest.raises(ImageError, match=r"gray.tif: it has no band 'B04'; its bands: 1 \(gray"):
        predictor(view).file(tmp_path / "gray.tif")


def test_the_map_is_on_the_resampled_grid(tmp_path):
    create(tmp_path / "in/a.tif")
    view = View(rgb=("B04", "B03", "B02"), limits=((0.0, 3000.0),), gsd=1.0)
    predictor(view, probability=True)(tmp_path / "in", tmp_path / "out")
    with rasterio.open(tmp_path / "in/a.tif") as image:
        bounds, crs = image.bounds, image.crs
    for name in ("a.tif", "a.probability.tif"):
        with rasterio.open(tmp_path / "out" / name) as file:
            assert (file.shape, file.res, file.bounds, file.crs) == ((32, 48), (1, 1), bounds, crs)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_other_files_of_a_folder(tmp_path, caplog):
    """Only TIFF and JPEG 2000 have a view; with it, a missing band is the file's error."""
    create(tmp_path / "in/a.tif")
    create_geo_raster(tmp_path / "in/b.tif", draw_bands(3), descriptions=["B02", "B03", "nir"])
    create(tmp_path / "in/c.tif", crs=None, transform=None)
    create_image(tmp_path / "in/d.png")
    net, view = Recorder(), View(rgb=("B04", "B03", "B02"), limits=((0.0, 3000.0),))
    counts = predictor(view)(tmp_path / "in", tmp_path / "out")
    assert counts == Counts(written=3, kept=0, failed=1)
    assert "in/b.tif: it has no band 'B04'; its bands: 1 B02" in caplog.text
    assert caplog.text.rstrip().endswith("; the model sees the bands B04, B03, B02")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.tif", "c.png", "d.png", "categories.json", "predictor.json"}
    predictor(view, net).file(tmp_path / "in/a.tif")
    with_place = net.image
    predictor(view, net).file(tmp_path / "in/c.tif")
    np.testing.assert_array_equal(net.image, with_place)
    predictor(view, net).file(tmp_path / "in/d.png")
    as_png = net.image
    predictor(None, net).file(tmp_path / "in/d.png")
    np.testing.assert_array_equal(net.image, as_png)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_that_cannot_be_resampled_is_refused(tmp_path):
    create(tmp_path / "a.tif", crs=None, transform=None)
    view = View(rgb=("B04", "B03", "B02"), gsd=0.8)
    message = r"a.tif: it has no coordinate .* sees the bands B04, B03, B02 at 0.8 m per pixel$"
    with pytest.raises(ImageError, match=message):
        predictor(view).file(tmp_path / "a.tif")


def test_without_a_view_rasters_are_read_by_default(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(3))
    net = Recorder()
    predictor(None, net).file(tmp_path / "a.tif")
    with Raster(tmp_path / "a.tif") as raster:
        expected = raster.read().image
    np.testing.assert_array_equal(net.image, expected.transpose(2, 0, 1))


def test_predictions_of_different_views_are_not_mixed(tmp_path):
    create(tmp_path / "in/a.tif")
    views = [None, *(View(rgb=("B04", "B03", "B02"), limits=((0.0, n),)) for n in (3000.0, 2000.0))]
    for view in views:
        target = tmp_path / f"out {view and view.limits}"
        settings = {} if view else {"band_names": S2[:3]}  # without a view there are four bands
        predictor(view, **settings)(tmp_path / "in", target)
        assert predictor(view, **settings)(tmp_path / "in", target).kept == 1
        for other in views:
            if other != view:
                with pytest.raises(ConfigError, match=r"predictor.json: view was .*, is .*output="):
                    predictor(other)(tmp_path / "in", target)
    record = tmp_path / "out None/predictor.json"
    settings = json.loads(record.read_text())
    del settings["view"]  # as in earlier versions
    record.write_text(json.dumps(settings))
    assert predictor(None, band_names=S2[:3])(tmp_path / "in", record.parent).kept == 1
