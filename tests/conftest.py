import signal
from contextlib import nullcontext

import faiss
import pytest
import torch
import wandb

from tests.factories import create_folder_pair
from tests.pictures import no_pictures
from tests.pretend_cuda import PretendCuda
from tests.programs import call


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_worker():
    """pytest-xdist has a process per core; more threads than cores only wait for each other."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A shell's background job, as of a CI, ignores Ctrl-C, and so would all that it begins."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cuda():
    """A CUDA device, pretended, that counts kernels and waits."""
    with PretendCuda() as device:
        yield device


@pytest.fixture(scope="module", autouse=True)
def reports_without_pictures(request):
    """Modules with the mark ``pictures`` check them."""
    with nullcontext() if request.node.get_closest_marker("pictures") else no_pictures():
        yield


@pytest.fixture
def label(tmp_path, monkeypatch, capfd):
    """Call label.py in a folder of its own; returns how it ended and what it wrote."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call("label.py", arguments, monkeypatch, capfd)


@pytest.fixture
def train(tmp_path, monkeypatch, capfd):
    """Call train.py in a folder of its own; returns (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = call("train.py", arguments, monkeypatch, capfd)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def pair(tmp_path):
    """The folder of a small dataset of pairs."""
    create_folder_pair(tmp_path / "pair", n=3, size=(64, 96))
    return tmp_path / "pair"


@pytest.fixture
def offline_wandb(monkeypatch):
    """W&B without its server; its helper process, which keeps the folder that it began in, ends."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.teardown()
