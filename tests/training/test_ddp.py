"""Two gloo processes against one with twice the batch."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.training import ddp_run

ROOT = Path(__file__).parents[2]


def run_here(folder, *more):
    """Train in this process, which saves the start of another."""
    folder.mkdir()
    with warnings.catch_warnings():
        ddp_run.main(1, folder, "joint" in more)
    return results(folder)


def start(processes, folder, *more):
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.ddp_run", str(processes), str(folder), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return results(folder)


def results(folder):
    return json.loads((folder / "result.json").read_text()), torch.load(folder / "weights.pt")


@pytest.mark.parametrize("more", [(), pytest.param(("joint",), marks=pytest.mark.two_processes)])
def test_two_processes_learn_and_score_as_one_with_twice_the_batch(tmp_path, more):
    one, weights = run_here(tmp_path / "one", *more)
    two, theirs = start(2, tmp_path / "two", *more)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == 6
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    # Every validation image once: five images over two processes.
    for ours, others in zip(one["confusion"], two["confusion"], strict=True):
        assert sum(map(sum, ours)) == sum(map(sum, others)) > 0
    assert two["mIoU"] == pytest.approx(one["mIoU"], abs=2e-3)
    for name, value in weights.items():
        assert_close(theirs[name], value, rtol=1e-3, atol=2e-4, msg=name)
