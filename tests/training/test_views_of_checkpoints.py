"""Checkpoints have the view of the rasters that a model was trained on."""

from pathlib import Path

import geopandas
import numpy as np
import shapely
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

import alps
from alps.cli.trained_view import with_trained_view
from alps.images import Vectors
from alps.prediction.sliding import SlidingWindow
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.training.checkpoint import read_checkpoint
from tests.geo_rasters import GRIDS, create_geo_raster, draw_bands
from tests.programs import LIGHTNING_WARNINGS
from tests.training.tiny_runs import ColoredBlocks, tiny_data, tiny_task, tiny_trainer

pytestmark = LIGHTNING_WARNINGS

TINY = {"model": "test_resnet", "head": "fpn", "init": None, "batch_size": 2, "device": "cpu"}
S2 = ["B02", "B03", "B04", "B08"]
VIEW = View(rgb=("B04", "B03", "B02"), limits=((0.0, 3000.0),), gsd=0.5)


def fields(folder, name, scale=1, **settings):
    """Two rasters of 16 bits with a field each."""
    crs, transform = GRIDS["UTM"]
    for i in range(2):
        options = {"descriptions": S2, "transform": transform.translation(0, 100 * i) @ transform}
        bands = draw_bands(4, (96, 96), seed=i) // scale
        create_geo_raster(folder / f"{name}/{i}.tif", bands, **options)
    x, y = transform @ (0, 0)
    boxes = [shapely.box(x, y - 20 + 100 * i, x + 30, y + 100 * i) for i in range(2)]
    layer = geopandas.GeoDataFrame({"kind": ["a", "b"]}, geometry=boxes, crs=crs)
    layer.to_file(folder / "fields.gpkg")
    return Vectors(
        root=str(folder / name),
        vectors=str(folder / "fields.gpkg"),
        field="kind",
        window=64,
        overlap=0,
        **settings,
    )


def test_prediction_reads_rasters_like_training(tmp_path):
    """They are stretched together and resampled."""
    images = fields(tmp_path, "in", gsd=0.75)
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


def test_scores_are_of_rasters_read_like_training(tmp_path, train):
    """Another collection, which is darker, is not stretched for itself."""
    images = fields(tmp_path, "bright", gsd=0.75)
    alps.fit(images, **TINY, steps=1, run=tmp_path / "run")
    dark = fields(tmp_path, "dark", scale=3)
    dataset = OmegaConf.create(
        {"_target_": "alps.images.Vectors", "root": dark.root, "vectors": dark.vectors}
        | {"field": "kind", "window": 64, "overlap": 0, "gsd": None, "stretch": "collection"}
    )
    read = instantiate(with_trained_view(dataset, View.from_json(images.view)))
    assert read.view == images.view != dark.view
    for record in read.records():
        with Raster(Path(read.root, record.file_name), View.from_json(images.view)) as raster:
            expected = raster.read(record.window).image
        np.testing.assert_array_equal(read.read(record).image, expected)

    options = ("dataset=vectors", f"dataset.root={dark.root}", f"dataset.vectors={dark.vectors}")
    options += (
        "dataset.field=kind",
        "dataset.window=64",
        "dataset.overlap=0",
        "trainer=cpu",
        "logger=none",
    )
    status, _, err = train("stage=test", f"ckpt={tmp_path}/run/last.ckpt", *options)
    assert status == 0, err
    seen = View.from_json(images.view).describe()
    assert f"as in training, which replaces dataset.rgb, stretch and gsd: {seen}\n" in err


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
