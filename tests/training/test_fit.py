"""`alps.fit` and `alps.load_net`, beside train.py."""

import inspect
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import alps
from alps.cli.program import to_dict
from alps.errors import CheckpointError, ConfigError, ImageError
from alps.images import Folder, FolderPair
from alps.models.build import HEADS, PRESETS, find_preset
from alps.prediction.sliding import SlidingWindow
from alps.training.trainer import default_callbacks
from tests.cli.test_train_several import create_store
from tests.factories import create_folder_pair
from tests.programs import LIGHTNING_WARNINGS, ROOT, composed
from tests.training.tiny_runs import ColoredBlocks

pytestmark = LIGHTNING_WARNINGS

#: A small net on the CPU, and train.py's arguments for it.
TINY = {
    "model": "test_resnet",
    "head": "fpn",
    "init": None,
    "steps": 2,
    "batch_size": 2,
    "device": "cpu",
}
ARGUMENTS = (
    *("stage=finetune", "model=timm", "model.encoder=test_resnet", "head=fpn", "init=null"),
    *("trainer=cpu", "trainer.max_steps=2", "data.batch_size=2"),
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The net of a run, and its folder, which also holds its data."""
    folder = tmp_path_factory.mktemp("fit")
    create_folder_pair(folder / "pair", n=3, size=(64, 96))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    net = alps.fit(FolderPair(root=str(folder / "pair")), **TINY, run=folder / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return net, folder


def settings(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def logits(net):
    image = torch.arange(3 * 64 * 64).reshape(1, 3, 64, 64).to(torch.uint8)
    with torch.no_grad():
        return net.model(image).logits


def test_presets_and_heads_are_those_of_conf():
    for path in (ROOT / "conf/model").glob("*.yaml"):
        conf = yaml.safe_load(path.read_text())
        preset = find_preset("???" if path.stem == "timm" else path.stem)
        assert (path.stem in PRESETS) == (path.stem != "timm")
        rows = (preset.encoder, preset.drop_path_rate, preset.lr, False)
        assert rows == (conf["encoder"], conf["drop_path_rate"], conf["lr"], conf["aux"])
    conf = {p.stem: yaml.safe_load(p.read_text()) for p in (ROOT / "conf/head").glob("*.yaml")}
    assert conf.pop("mmseg")["_target_"] == "alps.models.heads.MmsegHead"
    assert conf == HEADS


def test_the_settings_and_callbacks_are_those_of_train_py(fitted, tmp_path):
    _, folder = fitted
    own = settings(folder / "run")
    dataset = ("dataset=folder_pair", f"dataset.root={folder}/pair")
    conf = to_dict(composed(*ARGUMENTS, *dataset, f"run={folder}/run"))
    # Compared as callbacks below; the folders of other runs; what Python does not have.
    for key in ("callbacks", "logger", "paths", "resume", "compile", "name"):
        assert key not in own
        del conf[key]
    assert conf["trainer"].pop("precision") == "auto"
    assert own["trainer"].pop("precision") == "32-true"  # what was used is saved
    assert own == conf
    types = [
        node["_target_"].rpartition(".")[2] for node in composed(*ARGUMENTS).callbacks.values()
    ]
    assert [type(callback).__name__ for callback in default_callbacks(tmp_path)] == types


def test_the_defaults_are_those_of_train_py():
    parameters = inspect.signature(alps.fit).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    conf = to_dict(composed("stage=finetune"), resolve=False)
    assert defaults["steps"] == conf["trainer"]["max_steps"]
    assert defaults["precision"] == conf["trainer"]["precision"]
    assert defaults["device"] == conf["trainer"]["accelerator"]
    assert (defaults["batch_size"], defaults["crop"]) == (16, None)
    assert (conf["data"]["batch_size"], conf["data"]["crop"]) == (16, None)
    assert PRESETS[defaults["model"]].encoder == conf["model"]["encoder"]
    assert HEADS[defaults["head"]] == conf["head"]
    assert (defaults["seed"], defaults["strict"]) == (conf["seed"], conf["strict"])


def test_it_learns_what_train_py_learns(fitted, train):
    net, folder = fitted
    dataset = ("dataset=folder_pair", f"dataset.root={folder}/pair")
    status, _, err = train(*ARGUMENTS, *dataset, "run=x", "logger=none")
    assert status == 0, err
    assert logits(alps.load_net("x/last.ckpt", device="cpu")).equal(logits(net))


def test_a_thread_trains_the_same_net(fitted, tmp_path):
    net, folder = fitted
    images = FolderPair(root=str(folder / "pair"))
    with ThreadPoolExecutor(1) as pool:
        in_thread = pool.submit(alps.fit, images, **TINY, run=tmp_path / "run").result()
    assert in_thread.weights == net.weights


def test_a_run_has_what_train_py_writes(fitted):
    _, folder = fitted
    files = {path.name for path in (folder / "run").iterdir()}
    assert files == {"best.ckpt", "last.ckpt", "config.yaml", "csv", "pictures"}


def test_arrays_files_and_train_py_give_the_same_map(fitted, train, tmp_path):
    net, folder = fitted
    assert repr(net) == "Net(encoder='test_resnet', head='FPN', classes=4, device='cpu')"
    path = tmp_path / "in/a.png"
    path.parent.mkdir()
    with Image.open(folder / "pair/img_dir/val/0.jpg") as image:
        image.save(path)
    with Image.open(path) as image:
        array = np.asarray(image)
    expected = net.predict(array)
    assert (expected.shape, expected.dtype) == ((64, 96), np.uint8)
    np.testing.assert_array_equal(net.predict(array[..., ::-1].copy()[..., ::-1]), expected)
    np.testing.assert_array_equal(net.predict(path), expected)
    np.testing.assert_array_equal(net.predict(str(path)), expected)
    ckpt = f"ckpt={folder}/run/last.ckpt"
    status, out, err = train("stage=predict", ckpt, "input=in", "output=out", "trainer=cpu")
    assert status == 0, err
    assert out == "1 predicted, 0 already present, 0 skipped\npredictions out\n"
    with Image.open("out/a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert net.predict_files("in", "out").kept == 1  # of the same weights and window


def test_pixels_without_data_have_no_class(fitted, tmp_path):
    net, _ = fitted
    image = np.full((40, 48, 4), 255, np.uint8)
    image[:10, :, 3] = 0
    Image.fromarray(image).save(tmp_path / "a.png")
    labels = net.predict(tmp_path / "a.png")
    assert (labels[:10] == net.ignore_index).all()
    assert labels[10:].max() < 4


def test_the_window_can_be_replaced(fitted, tmp_path):
    _, folder = fitted
    net = alps.load_net(folder / "run/last.ckpt", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    before = net.window
    assert before == SlidingWindow(crop=64)
    net.window = SlidingWindow(crop=32, flip=True)
    assert net.predict(image).shape == (100, 130)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 3)), r"array of float64 \(4, 5, 3\), expected uint8 \(H, W, 3\)"),
        (np.zeros((4, 5), np.uint8), r"array of uint8 \(4, 5\), expected uint8 \(H, W, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"array of uint8 \(3, 4, 5\), .*path of a file"),
        (np.zeros((0, 5, 3), np.uint8), r"array of uint8 \(0, 5, 3\)"),
        ("nosuch.png", "cannot read nosuch.png"),
    ],
)
def test_other_images_are_refused(fitted, image, message):
    with pytest.raises(ImageError, match=message):
        fitted[0].predict(image)


def test_a_folder_is_predicted_by_another_method(fitted, tmp_path):
    with pytest.raises(
        ConfigError, match=r"is a folder, expected one image; predict_files\(folder"
    ):
        fitted[0].predict(tmp_path)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_its_checkpoint_is_tested_exported_and_resumed_by_train_py(fitted, train):
    _, folder = fitted
    ckpt = f"ckpt={folder}/run/last.ckpt"
    status, out, err = train("stage=test", ckpt, "trainer=cpu", "logger=none")
    assert status == 0, err
    assert "3 whole images" in out
    status, _, err = train("stage=export", ckpt, "output=out")
    assert status == 0, err
    shutil.copytree(folder / "run", "run")
    dataset = ("dataset=folder_pair", f"dataset.root={folder}/pair", "trainer.max_steps=4")
    status, out, err = train(*ARGUMENTS, *dataset, "resume=run/last.ckpt", "logger=none")
    assert status == 0, err
    assert "step 4/4" in out


def test_the_same_call_continues_or_returns_the_net(tmp_path, capsys):
    create_folder_pair(tmp_path / "pair", n=3, size=(64, 96))

    def fit(**changes):
        images = FolderPair(root=str(tmp_path / "pair"))
        return alps.fit(images, **{**TINY, **changes}, run=tmp_path / "run")

    net = fit()
    capsys.readouterr()
    assert logits(fit()).equal(logits(net))
    assert capsys.readouterr().out == ""
    with pytest.raises(CheckpointError, match=r"its run: data.batch_size was 2, is 1; restore"):
        fit(batch_size=1)
    with pytest.raises(
        CheckpointError, match=r"is finished \(step 2\): increase trainer.max_steps"
    ):
        fit(steps=1)
    more = fit(steps=4)
    assert "step 4/4" in capsys.readouterr().out
    assert not logits(more).equal(logits(net))
    for name in ("img_dir/train/0.jpg", "ann_dir/train/0.png"):
        (tmp_path / "pair" / name).unlink()
    with pytest.raises(CheckpointError, match="only be resumed with the same images and labels"):
        fit(steps=4)


class Interrupting(ColoredBlocks):
    """A labelled set of the user's own; Ctrl-C comes when the n-th image is read, or never."""

    stops_at, signals = -1, 1
    reads = 0

    def read(self, record):
        self.reads += 1
        for _ in range(self.signals * (self.reads == self.stops_at)):
            os.kill(os.getpid(), signal.SIGINT)
        return super().read(record)


def test_ctrl_c_is_a_keyboard_interrupt_and_the_same_call_resumes(tmp_path, train):
    options = {**TINY, "steps": 3, "crop": 64}
    whole = alps.fit(Interrupting(n=4, val=1), **options, run=tmp_path / "whole")
    images = Interrupting(n=4, val=1)
    images.stops_at = 8
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped after step [12]; .*last.ckpt was written"
    ):
        alps.fit(images, **options, run=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = alps.fit(images, **options, run=tmp_path / "run")
    assert logits(resumed).equal(logits(whole))

    status, _, err = train("stage=test", "ckpt=run/last.ckpt", "trainer=cpu", "logger=none")
    assert (status, err.splitlines()[-1]) == (
        1,
        "error: run/last.ckpt was trained in Python on images that a configuration cannot "
        "describe; choose a dataset with the same classes: dataset=NAME",
    )


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    images = Interrupting(n=4, val=1)
    images.stops_at, images.signals = 8, 2
    with pytest.raises(KeyboardInterrupt, match=r"stopped at once, without writing .*last.ckpt"):
        alps.fit(images, **{**TINY, "steps": 3, "crop": 64}, run=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_store_and_its_folder_are_the_same_data(tmp_path):
    create_folder_pair(tmp_path / "pair", n=2, size=(32, 32))
    create_store(tmp_path / "two_pl", tmp_path / "pair", 2)
    store = alps.open_store(tmp_path / "two_pl")
    net = alps.fit(store, **{**TINY, "steps": 1}, run=tmp_path / "run")
    assert [category.name for category in net.categories] == ["cluster_00", "cluster_01"]
    assert settings(tmp_path / "run")["dataset"]["_target_"] == "alps.images.StoredLabels"
    again = alps.fit(store.root, **{**TINY, "steps": 1}, run=tmp_path / "run")
    assert again.weights == net.weights


def test_data_without_labels_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Folder has no labels to train on, .* alps.label makes"):
        alps.fit(Folder(str(tmp_path), "x"), **TINY)


def test_an_unknown_head_names_the_others(fitted):
    images = FolderPair(root=str(fitted[1] / "pair"))
    with pytest.raises(ConfigError, match="no head 'fpm'; choose one of fpn, unet, upernet"):
        alps.fit(images, **{**TINY, "head": "fpm"})
