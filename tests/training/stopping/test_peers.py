"""Stand-ins for the processes that Lightning starts; real ones are in test_interrupt.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from alps.errors import ImageError
from alps.training.stopping import peers
from alps.training.stopping.peers import ending_together
from tests.training.tiny_runs import tiny_trainer


def started(folder, *seconds):
    """A trainer that has started processes which last so long."""
    trainer = tiny_trainer(folder, devices=len(seconds) + 1, strategy="ddp")
    processes = [subprocess.Popen(["sleep", str(s)]) for s in seconds]
    trainer.strategy.launcher.procs = processes
    return trainer, processes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_leaves_no_process(tmp_path, number):
    trainer, (process,) = started(tmp_path, 60)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left, ending_together(trainer):
        os.kill(os.getpid(), number)
        time.sleep(60)
    assert left.value.code == 128 + number
    assert process.wait(5) == -signal.SIGKILL
    assert signal.getsignal(number) is before


def test_an_error_ends_the_others_and_an_agreed_stop_does_not(tmp_path):
    trainer, (process,) = started(tmp_path, 60)
    with pytest.raises(ImageError), ending_together(trainer):
        raise ImageError("gone")
    assert process.wait(5) == -signal.SIGKILL
    trainer, (process,) = started(tmp_path, 1)
    with pytest.raises(SIGTERMException), ending_together(trainer):
        raise SIGTERMException
    assert process.wait(5) == 0


def test_who_did_not_start_the_others_lets_the_first_speak(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "REPORT_TIME", 0.1)
    trainer = tiny_trainer(tmp_path, devices=2, strategy="ddp")
    trainer.strategy._launcher = None
    assert trainer.world_size == 2
    begin = time.monotonic()
    with pytest.raises(ImageError), ending_together(trainer):
        raise ImageError("gone")
    assert time.monotonic() - begin >= 0.1


@pytest.mark.two_processes
def test_a_process_that_was_killed_ends_all_and_is_named():
    """Out of memory, for one; here the first process waits, as in a collective."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("\nerror: process 2 of the run was ended by SIGKILL\n")


KILLED = """
import time
from tests.training.stopping.test_peers import ending_together, started
trainer, (_, process) = started(".", 60, 60)
with ending_together(trainer):
    process.kill()
    time.sleep(60)
"""
