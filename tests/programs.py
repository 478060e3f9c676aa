"""The programs as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import train
from alps.errors import one_line_errors

ROOT = Path(__file__).parents[1]
#: A net of 370,000 weights, crops of 64 px.
TINY = (
    "model=timm",
    "model.encoder=test_resnet",
    "head=fpn",
    "head.channels=32",
    "head.pyramid_channels=32",
    "trainer=cpu",
    "data.batch_size=2",
)


def call_train(arguments, monkeypatch, capfd):
    """train.py in this process; returns (exit status, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    GlobalHydra.instance().clear()
    status = 0
    try:
        with one_line_errors(*train.CONFIG_ERRORS, interrupted=train.INTERRUPTED):
            train.main()
    except SystemExit as exit_:
        status = exit_.code
    out, err = capfd.readouterr()
    return status, out, err


def composed(*overrides):
    """The configuration of train.py with some words, unresolved."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


def label(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, ROOT / "label.py", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
