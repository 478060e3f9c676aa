"""Nets of thirteen bands: they train, resume, predict, and know their bands by name."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import alps
from alps.errors import CheckpointError, ConfigError, ImageError
from alps.images import FolderPair
from alps.training.checkpoint import read_checkpoint
from alps.training.train import common_bands
from tests.banded import NAMES, create_banded, create_banded_pair, draw_bands
from tests.factories import create_folder_pair
from tests.programs import LIGHTNING_WARNINGS, finetune

pytestmark = LIGHTNING_WARNINGS

ORDER = np.random.default_rng(3).permutation(len(NAMES))
TINY = {"model": "test_resnet", "head": "fpn", "init": None, "batch_size": 2, "device": "cpu"}
PERMUTED = [NAMES[i] for i in ORDER]


def fit(folder, bands=NAMES, run="run", **options):
    images = FolderPair(root=str(folder / "pair"), bands=list(bands), classes=list("abcd"))
    return alps.fit(images, **{**TINY, "steps": 2, **options}, run=folder / run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset, and ``run``: two steps of training on it."""
    folder = tmp_path_factory.mktemp("bands")
    create_banded_pair(folder / "pair")
    fit(folder)
    return folder


@pytest.fixture(scope="module")
def net(folder):
    return alps.load_net(folder / "run/last.ckpt", device="cpu")


def logits(net, bands):
    with torch.no_grad():
        return net.model(torch.from_numpy(bands.astype(np.float32))[None]).logits


def permute(net, order):
    """The net of the same bands in another order."""
    net.model.encoder.trunk.conv1[0].weight.data = net.model.encoder.trunk.conv1[0].weight[:, order]
    for name in ("mean", "std"):
        getattr(net.model, name).copy_(getattr(net.model, name)[:, order].clone())
    net.model.band_names = tuple(net.model.band_names[i] for i in order)


def test_the_checkpoint_has_names_and_statistics_of_the_bands(folder, net):
    assert net.band_names == NAMES
    bands = np.stack([draw_bands(seed=i)[0] for i in range(2)])
    bands[:, :, :8, :8] = 0
    pixels = bands.transpose(1, 0, 2, 3)[:, (bands != 0).all(1)]
    assert net.model.mean.flatten().tolist() == pytest.approx(pixels.mean(1))
    assert net.model.std.flatten().tolist() == pytest.approx(pixels.std(1), rel=1e-5)
    assert net.model.encoder.in_channels == 13
    saved = read_checkpoint(folder / "run/last.ckpt")
    assert saved.band_names == NAMES
    assert saved.statistics == net.model.statistics
    with Image.open(folder / "run/pictures/step_000002.png") as picture:
        assert np.asarray(picture.crop((12, 28, 332, 348))).std() > 10  # the image, in RGB


class Interrupting(FolderPair):
    """Ctrl-C comes when the n-th image is read, or never."""

    stops_at, reads = -1, 0

    def read(self, record):
        self.reads += 1
        if self.reads == self.stops_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().read(record)


def test_a_resumed_run_has_the_weights_of_an_unbroken_one(folder, tmp_path, monkeypatch):
    options = {"bands": list(NAMES), "classes": list("abcd")}
    images = Interrupting(root=str(folder / "pair"), **options)
    whole = alps.fit(images, **TINY, steps=3, run=tmp_path / "whole")
    images.stops_at = images.reads + 9
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step [12]"):
        alps.fit(images, **TINY, steps=3, run=tmp_path / "run")
    # The statistics are those of the checkpoint.
    monkeypatch.setattr("alps.training.train.measure_bands", None)
    assert alps.fit(images, **TINY, steps=3, run=tmp_path / "run").weights == whole.weights


def test_permuted_bands_of_a_permuted_net_have_the_same_logits(folder, net):
    bands = draw_bands(seed=5)[0]
    permuted = alps.load_net(folder / "run/last.ckpt", device="cpu")
    permute(permuted, ORDER)
    assert permuted.band_names == tuple(PERMUTED)
    expected = logits(net, bands)
    assert expected.std() > 1e-4
    torch.testing.assert_close(logits(permuted, bands[ORDER]), expected, rtol=1e-5, atol=1e-5)


def test_bands_of_a_file_are_found_by_name(net, tmp_path):
    bands = draw_bands((80, 100), seed=5)[0]
    bands[:, 30:40] = 0
    create_banded(tmp_path / "in/a.tif", bands)
    create_banded(tmp_path / "in/b.tif", bands[ORDER], PERMUTED, interleave="band")
    extra = np.concatenate([bands[:1] // 2, bands])
    create_banded(tmp_path / "in/c.tif", extra, ("quality", *NAMES))
    labels = net.predict(np.where(bands == 0, np.nan, bands))
    assert (labels[30:40] == 255).all()
    assert len(np.unique(labels)) > 2
    np.testing.assert_array_equal(net.predict(bands), net.predict(bands.astype(np.float64)))
    assert net.predict_files(tmp_path / "in", tmp_path / "out").written == 3
    for name in "abc":
        np.testing.assert_array_equal(net.predict(tmp_path / f"in/{name}.tif"), labels)
        with rasterio.open(tmp_path / f"out/{name}.tif") as file:
            np.testing.assert_array_equal(file.read(1), labels)
            assert file.crs.to_epsg() == 32632
    window = json.loads((tmp_path / "out/predictor.json").read_text())
    assert window["window.fill"] == pytest.approx(net.model.mean.flatten().tolist())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"array of uint8 \(8, 8, 3\), expected numbers \(13, H, W"),
        (np.zeros((12, 8, 8)), r"\(12, 8, 8\), expected numbers \(13, H, W\): the bands B01, B02"),
        (np.zeros((13, 8, 8), bool), "array of bool .* select these bands in this order"),
        (np.zeros((13, 0, 8)), r"array of float64 \(13, 0, 8\)"),
        (
            "a.tif",
            r"read a.tif: it has no band 'B03'; its bands: 1 B01 .*; the model sees the bands",
        ),
        ("a.png", "cannot read a.png: it is neither a TIFF nor a JPEG 2000 file; the model sees"),
    ],
)
def test_other_bands_are_refused(net, image, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_banded(tmp_path / "a.tif", draw_bands((8, 8))[0][:2], NAMES[:2])
    Image.new("RGB", (8, 8)).save("a.png")
    with pytest.raises(ImageError, match=message):
        net.predict(image)


def test_another_order_of_bands_is_refused(folder, tmp_path, train):
    last = folder / "run/last.ckpt"
    swapped = "B02,B01," + ",".join(NAMES[2:])
    expected = f"the bands {', '.join(NAMES)}"
    bands = f"dataset.bands=[{','.join(NAMES)}]"
    status, _, err = train(
        "stage=test", f"ckpt={last}", "trainer=cpu", "logger=none", f"+dataset.bands=[{swapped}]"
    )
    assert status == 1
    assert f"was trained on {expected}, but folder_pair has the bands B02, B01" in err
    assert f"; set {bands}" in err
    status, _, err = train(*finetune(folder / "pair", f"init={last}", f"dataset.bands=[{swapped}]"))
    assert status == 1
    assert f"init={last} was trained on {expected}, but this model has the bands B02, B01" in err
    assert f"; set {bands}, or init_skip=[encoder]" in err
    with pytest.raises(CheckpointError, match=r"settings of its run: dataset.bands was \['B01', "):
        fit(folder, bands=swapped.split(","))
    with pytest.raises(CheckpointError, match=r"trained on the bands B01, .* x has RGB; set data"):
        read_checkpoint(last).check_bands(None, "x")


def test_it_is_tested_exported_and_fine_tuned(folder, net, train):
    ckpt = f"ckpt={folder / 'run/last.ckpt'}"
    status, out, err = train("stage=test", ckpt, "trainer=cpu", "logger=none")
    assert status == 0, err
    assert "2 whole images" in out
    status, _, err = train("stage=export", ckpt, "output=out")
    assert status == 0, err
    values = {}
    exec(text := Path("out/config.py").read_text(), values)
    preprocessor = values["model"]["data_preprocessor"]
    assert preprocessor["mean"] == pytest.approx(net.model.mean.flatten().tolist())
    assert preprocessor["std"] == pytest.approx(net.model.std.flatten().tolist())
    assert not preprocessor["bgr_to_rgb"]
    assert values["model"]["backbone"]["in_channels"] == 13
    assert f"# The bands of an image are, in this order: {', '.join(NAMES)}\n" in text
    assert "dict(type='LoadSingleRSImageFromFile')" in text


def test_weights_of_rgb_and_of_the_same_bands_start_a_net(folder, tmp_path, capsys):
    create_folder_pair(tmp_path / "rgb", n=2, size=(64, 64))
    images = FolderPair(root=str(tmp_path / "rgb"))
    rgb = alps.fit(images, **TINY, steps=1, run=tmp_path / "rgb_run")
    assert rgb.band_names is None
    capsys.readouterr()
    net = fit(folder, run=tmp_path / "a", init=tmp_path / "rgb_run/last.ckpt", steps=1, lr=1e-12)
    assert "the first convolution was adapted to the bands" in capsys.readouterr().out
    first, source = (n.model.encoder.trunk.conv1[0].weight for n in (net, rgb))
    repeated = source[:, [i % 3 for i in range(13)]] * 3 / 13
    torch.testing.assert_close(first, repeated, rtol=1e-4, atol=1e-6)
    again = fit(folder, bands=NAMES, run=tmp_path / "b", init=folder / "run/last.ckpt", steps=1)
    assert "adapted" not in capsys.readouterr().out
    assert net.model.statistics == again.model.statistics


def test_datasets_of_one_run_have_the_same_bands(folder):
    sets = {
        name: FolderPair(root=str(folder / "pair"), bands=bands)
        for name, bands in (("a", ["B02", 3]), ("b", [3, 2]), ("c", ["b02", "B03"]))
    }
    with pytest.raises(
        ConfigError, match=r"a has the bands B02, B03 and b the bands B03, B02; set"
    ):
        common_bands(sets)
    del sets["b"]
    assert common_bands(sets) == ("B02", "B03")
