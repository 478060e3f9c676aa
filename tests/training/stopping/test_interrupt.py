"""Runs that are stopped: by signals, by files, once or again; with and without averaged weights."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from alps.errors import CheckpointError, DatasetNotFound, ImageError
from alps.training.checkpoint import read_checkpoint
from alps.training.runs import fit as run_fit
from alps.training.stopping.interrupt import Interrupt
from tests.training.tiny_runs import Losses, tiny_data, tiny_task, tiny_trainer

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",  # Lightning on torch 2.15
    "ignore:.*does not have many workers",
    "ignore:You're resuming from a checkpoint that ended before",  # our batches are resumable
    "ignore:Checkpoint directory .* exists",
)


class Stop(Losses):
    """At this step, in the middle of it or of its validation: send a signal, or find no file."""

    def __init__(self, step: int = -1, what: int | None = None, *, validating: bool = False):
        super().__init__()
        self.step, self.what, self.validating = step, what, validating

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not self.validating and trainer.global_step + 1 == self.step:
            self._stop()

    def on_validation_batch_end(self, trainer, *rest):
        if self.validating and trainer.global_step == self.step:
            self._stop()

    def _stop(self):
        self.step = -1
        if self.what is None:
            raise ImageError("gone")
        os.kill(os.getpid(), self.what)


def fit(folder, stop, *, resume=None, ema=False, **options):
    """Eight steps with four validations, as `alps.training.runs.fit` sets them up."""
    task, interrupt = tiny_task(), Interrupt(folder)
    checkpoints = [  # as in conf/callbacks
        ModelCheckpoint(
            folder, "best", monitor="val/mIoU", mode="max", enable_version_counter=False
        ),
        ModelCheckpoint(folder, "last", enable_version_counter=False),
    ]
    averaging = [EMAWeightAveraging(decay=0.5)] if ema else []
    logger = CSVLogger(folder)
    trainer = tiny_trainer(folder, 8, [stop, *averaging, *checkpoints], logger=logger, **options)
    trainer.callbacks.append(interrupt)
    try:
        trainer.fit(task, datamodule=tiny_data(), ckpt_path=resume, weights_only=True)
    except (SIGTERMException, ImageError):
        return task, interrupt
    return task, None


def curve(folder):
    """All that was ever logged, by step; of a loss that was logged twice the last."""
    points = {}
    for path in sorted(folder.glob("lightning_logs/*/metrics.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                values = {k: v for k, v in row.items() if v and k not in ("step", "epoch")}
                points.setdefault(int(row["step"]), {}).update(values)
    return points


def same(one, other):
    return all(torch.equal(v, other[name]) for name, v in one.items()) and one.keys() == {*other}


#: At which step a run is stopped, by what, in a validation or not.
STOPS = (
    (3, signal.SIGINT, False),
    (3, signal.SIGTERM, False),
    (4, signal.SIGTERM, False),  # before its validation
    (4, signal.SIGINT, True),
    (8, signal.SIGTERM, True),
    (4, None, True),
    (8, None, True),
)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Runs that nothing stops, with averaged weights and without: (task, folder)."""
    folders = {ema: tmp_path_factory.mktemp("whole") for ema in (False, True)}
    return {ema: (fit(folder, Stop(), ema=ema)[0], folder) for ema, folder in folders.items()}


@pytest.mark.parametrize(
    ("stop", "ema"), [(0, False), (2, False), (5, False), (3, True), (6, True)]
)
def test_a_stopped_run_goes_on_exactly(tmp_path, wholes, stop, ema):
    check_stop(tmp_path, *wholes[ema], *STOPS[stop], ema=ema)  # the others: tests/matrix


def check_stop(folder, whole, whole_folder, step, what, validating, ema):
    """A run that is stopped and resumed equals one that is not."""
    _, interrupt = fit(folder, Stop(step, what, validating=validating), ema=ema)
    assert interrupt.signal == (what or 0)
    saved = read_checkpoint(folder / "last.ckpt")
    assert (saved.step, saved.validation_due) == (step, step in (4, 8))
    resumed, stopped = fit(folder, Stop(), resume=folder / "last.ckpt", ema=ema)
    assert stopped is None
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert curve(folder) == curve(whole_folder)
    assert len(curve(folder)) == 8
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (read_checkpoint(f / name) for f in (folder, whole_folder))
        assert (ours.step, ours.validation_due) == (theirs.step, False)
        assert same(ours.weights, theirs.weights)


def test_a_run_may_be_stopped_again_and_in_what_it_makes_up_for(tmp_path, wholes):
    whole, whole_folder = wholes[False]
    folder, resume = tmp_path / "broken", None
    for step in (2, 2, 4, 8, 8):
        _, stopped = fit(folder, Stop(step, signal.SIGTERM, validating=True), resume=resume)
        resume = folder / "last.ckpt"
        assert stopped is not None
        assert read_checkpoint(resume).step == step
    resumed, _ = fit(folder, Stop(), resume=resume)
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert curve(folder) == curve(whole_folder)


def test_a_step_of_several_batches_is_not_cut(tmp_path):
    options = {"accumulate_grad_batches": 2, "val_check_interval": 4}
    whole, _ = fit(tmp_path / "whole", Stop(), **options)
    folder = tmp_path / "broken"
    fit(folder, Stop(3, signal.SIGTERM), **options)  # in the first of its batches
    assert read_checkpoint(folder / "last.ckpt").step == 3
    resumed, _ = fit(folder, Stop(), resume=folder / "last.ckpt", **options)
    assert same(whole.model.state_dict(), resumed.model.state_dict())


def test_what_is_due_is_not_finished(tmp_path):
    fit(tmp_path, Stop(8, signal.SIGTERM, validating=True))
    saved = read_checkpoint(tmp_path / "last.ckpt")
    saved.check_unfinished(8)
    with pytest.raises(CheckpointError, match=r"is finished \(step 8\)"):
        saved.check_unfinished(7)
    fit(tmp_path, Stop(), resume=tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"is finished \(step 8\)"):
        read_checkpoint(tmp_path / "last.ckpt").check_unfinished(8)


@pytest.mark.parametrize(
    ("step", "what"), [(-1, None), (4, signal.SIGINT), (4, signal.SIGTERM), (4, None)]
)
def test_signals_are_given_back(tmp_path, step, what):
    """Twice in one process, as the trials of a sweep."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for trial in ("first", "second"):
        _, stopped = fit(tmp_path / trial, Stop(step, what, validating=True))
        assert (stopped is not None) == (step > 0)
        assert [signal.getsignal(number) for number in numbers] == before
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_signals_are_given_back_when_a_run_cannot_begin(tmp_path):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    data = tiny_data()
    data.train = []
    before = signal.getsignal(signal.SIGINT)
    trainer = tiny_trainer(tmp_path)
    with pytest.raises(DatasetNotFound, match="no image in train"):
        run_fit(tiny_task(), data, trainer, run=tmp_path, config={})
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    class Twice(Losses):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit):  # Lightning's answer to KeyboardInterrupt
        fit(tmp_path, Twice())
    assert not (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SIGNALS = {
    "SIGINT-step-0": "130 3",
    "SIGTERM-step-1": "143 3",
    "SIGINT-step-01": "130 3",
    "SIGTERM-validation-0": "143 4",
    "SIGINT-validation-1": "130 4",
}


def two_processes(folder, *names):
    return subprocess.run(
        [sys.executable, "-m", "tests.training.ddp_stop", str(folder), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.two_processes
def test_two_processes_stop_at_the_same_step_and_go_on_exactly(tmp_path):
    """Whoever of them is told, wherever it is, though one has a batch more to validate."""
    done = two_processes(tmp_path, "undisturbed", *SIGNALS)
    assert done.returncode == 0, done.stderr[-3000:]
    whole = torch.load(tmp_path / "undisturbed/weights.pt")
    for name, told in SIGNALS.items():
        assert (tmp_path / name / "stopped").read_text() == told
        assert same(whole, torch.load(tmp_path / name / "weights.pt")), name


@pytest.mark.two_processes
@pytest.mark.parametrize("name", ["file-step-1", "file-validation-0"])
def test_a_file_that_one_of_two_processes_cannot_use_ends_both(tmp_path, name):
    done = two_processes(tmp_path, name)
    assert done.returncode == 1, done.stderr[-3000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: an image of process {name[-1]} is gone"]
    assert "Traceback" not in done.stderr
    assert read_checkpoint(tmp_path / name / "last.ckpt").step == 2  # of the last validation
