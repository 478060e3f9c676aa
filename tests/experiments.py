"""The protocols of conf/experiment on tiny data, with the precision and clipping of a GPU."""

import re
import shutil

import torch

from alps.training.checkpoint import read_checkpoint
from tests.cli.test_train_several import create_store
from tests.factories import create_folder_pair, create_isaid, create_potsdam
from tests.ground_truth import create_samrs_subset
from tests.programs import ROOT

#: Protocols, with what their tiny data need.
PROTOCOLS = {
    "alps_pretrain": ("stage=pretrain",),
    "demo": ("stage=pretrain",),
    "isaid": ("stage=finetune", "dataset.tile_size=64", "dataset.stride=40"),
    "potsdam": ("stage=finetune", "dataset.tile_size=64"),
    "samrs_sep": ("stage=pretrain",),
}
#: The nets of conf/experiment.
NETS = tuple(sorted(path.stem for path in (ROOT / "conf/experiment").glob("upernet_*.yaml")))
#: trainer=gpu without its GPU, and with the clipping that its protocols have.
AS_ON_A_GPU = ("trainer=cpu", "trainer.precision=bf16-mixed", "trainer.gradient_clip_val=5.0")


def create_data(protocol, folder):
    """What a protocol learns from, under ``folder/data``."""
    data = folder / "data"
    if protocol in ("alps_pretrain", "demo"):
        name = {"alps_pretrain": "samrs_pl", "demo": "sample_pl"}[protocol]
        create_folder_pair(data / "pair", n=4, size=(64, 64), splits=("train",))
        create_store(data / name, data / "pair", 3)
    elif protocol == "isaid":
        create_isaid(data / "isaid")
    elif protocol == "potsdam":
        create_potsdam(data / "potsdam", areas=("2_10", "7_9", "2_13"))
    else:
        for subset in ("sota", "sior", "fast"):
            create_samrs_subset(data / "samrs", subset)


def check_protocol(train, folder, protocol, *net):
    """Two steps and a validation, and the same after a restart."""
    create_data(protocol, folder)
    stage, *options = PROTOCOLS[protocol]
    words = (
        *(stage, *net, *AS_ON_A_GPU, *options, "data.batch_size=3", "data.crop=64"),
        *("init=null", "logger=none", "trainer.val_check_interval=2", "run=run"),
        "+callbacks.checkpoint.save_top_k=0",  # last.ckpt has up to a GB
    )
    status, out, err = train(*words, "trainer.max_steps=2")
    assert status == 0, err
    assert re.search(r"step 2/2  train/loss \d+\.\d+  val/mIoU [01]\.", out)
    before = read_checkpoint(folder / "run/last.ckpt")
    status, out, err = train(*words, "trainer.max_steps=4", "resume=run/last.ckpt")
    assert status == 0, err
    assert re.search(r"step 4/4  train/loss \d+\.\d+  val/mIoU [01]\.", out)
    after = read_checkpoint(folder / "run/last.ckpt")
    assert (before.step, after.step) == (2, 4)
    changed = {name for name, value in after.weights.items() if value.is_floating_point()}
    assert all(after.weights[name].isfinite().all() for name in changed)
    learnt = [n for n in changed if not torch.equal(after.weights[n], before.weights[n])]
    assert {name.split(".")[0] for name in learnt} >= {"encoder", "head", "classifier"}
    del before, after  # which are mapped
    shutil.rmtree(folder / "run")  # pytest keeps folders of the last runs
