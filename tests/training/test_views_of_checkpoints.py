"""Checkpoints have the view of the rasters that a model was trained on."""

import geopandas
import numpy as np
import shapely
import torch

import alps
from alps.images import Vectors
from alps.prediction.sliding import SlidingWindow
from alps.rasters.view import View
from alps.training.checkpoint import read_checkpoint
from tests.geo_rasters import GRIDS, create_geo_raster, draw_bands
from tests.programs import LIGHTNING_WARNINGS
from tests.training.tiny_runs import ColoredBlocks, tiny_data, tiny_task, tiny_trainer

pytestmark = LIGHTNING_WARNINGS

TINY = {"model": "test_resnet", "head": "fpn", "init": None, "batch_size": 2, "device": "cpu"}
S2 = ["B02", "B03", "B04", "B08"]
VIEW = View(rgb=("B04", "B03", "B02"), limits=((0.0, 3000.0),), gsd=0.5)


def test_prediction_reads_rasters_like_training(tmp_path):
    """Two rasters of 16 bits with a field each, stretched together and resampled."""
    crs, transform = GRIDS["UTM"]
    for i in range(2):
        options = {"descriptions": S2, "transform": transform.translation(0, 100 * i) @ transform}
        create_geo_raster(tmp_path / f"in/{i}.tif", draw_bands(4, (96, 96), seed=i), **options)
    x, y = transform @ (0, 0)
    fields = [shapely.box(x, y - 20 + 100 * i, x + 30, y + 100 * i) for i in range(2)]
    layer = geopandas.GeoDataFrame({"kind": ["a", "b"]}, geometry=fields, crs=crs)
    layer.to_file(tmp_path / "fields.gpkg")
    images = Vectors(
        root=str(tmp_path / "in"),
        vectors=str(tmp_path / "fields.gpkg"),
        field="kind",
        background=True,
        gsd=0.75,
        window=64,
        overlap=0,
    )
    net = alps.fit(images, **TINY, steps=1, run=tmp_path / "run")
    assert net.view == View.from_json(images.view)
    assert (net.view.rgb, net.view.gsd, len(net.view.limits)) == (("B04", "B03", "B02"), 0.75, 3)

    order = [3, 0, 2, 1]
    create_geo_raster(
        *(tmp_path / "a.tif", draw_bands(4, (96, 96), seed=1)[order]),
        descriptions=[S2[i] for i in order],
    )
    inputs = []
    net.model.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    net.window = SlidingWindow(crop=512)
    assert net.predict(tmp_path / "a.tif").shape == (64, 64)
    (record,) = (record for record in images.records() if record.file_name == "1.tif")
    np.testing.assert_array_equal(inputs[0][0].permute(1, 2, 0), images.read(record).image)


class Rastered(ColoredBlocks):
    """Images with a view; the class attribute is its JSON."""

    view = VIEW.to_json()


def fit(folder, images):
    sets = images if isinstance(images, dict) else {"": images}
    data = tiny_data(images, batch_size=2 * len(sets))
    trainer = tiny_trainer(folder, 1, enable_checkpointing=False)
    trainer.fit(tiny_task(images), datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return read_checkpoint(folder / "last.ckpt")


def test_each_dataset_has_its_view(tmp_path):
    saved = fit(tmp_path, {"a": Rastered(), "b": ColoredBlocks()})
    assert (saved.choose("a").view, saved.choose("b").view) == (VIEW, None)


def test_checkpoints_without_a_view(tmp_path):
    """They are those of other images, and of earlier versions."""
    assert fit(tmp_path / "other", ColoredBlocks()).view is None
    assert fit(tmp_path / "rasters", Rastered()).view == VIEW
    content = torch.load(tmp_path / "other/last.ckpt", weights_only=True)
    assert "view" not in content["alps"]
