"""What a loader's process does with signals."""

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest

from alps.training.data import ignore_signals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing tells who sent a signal")


def wait_forever(ready):
    ignore_signals(0)
    ready.set()
    time.sleep(600)


@pytest.fixture
def loader():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=wait_forever, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.timeout(60)
def test_a_signal_to_all_processes_of_a_job_is_left_to_the_one_that_learns(loader):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        subprocess.run(["/bin/kill", f"-{int(number)}", str(loader.pid)], check=True)
    loader.join(0.5)
    assert loader.is_alive()


@pytest.mark.timeout(60)
def test_it_ends_when_the_process_that_learns_says_so(loader):
    """Python does at exit, and then waits for it without a limit."""
    loader.terminate()
    loader.join(30)
    assert loader.exitcode == 0
