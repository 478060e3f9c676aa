"""The programs as a user starts them."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from alps.cli import label, train

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
#: Of Lightning on torch 2.15, and of loaders without processes.
LIGHTNING_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)


def call(program, arguments, monkeypatch, capfd):
    """label.py or train.py in this process, which has imported what takes seconds."""
    module = {"label.py": label, "train.py": train}[program]
    command = [program, *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command)
    GlobalHydra.instance().clear()
    handlers = logging.getLogger().handlers[:]  # Hydra's write to streams that end with the test
    status = 0
    try:
        module.start()
    except SystemExit as exit_:
        status = exit_.code
    finally:
        logging.getLogger().handlers[:] = handlers
    return subprocess.CompletedProcess(command, status, *capfd.readouterr())


def finetune(root, *more):
    return ("stage=finetune", "dataset=folder_pair", f"dataset.root={root}", *TINY, *more)


def composed(*overrides):
    """The configuration of train.py with some words, unresolved."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


def start(program, *arguments, cwd):
    """label.py or train.py in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, ROOT / program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
