"""Several processes produce the same store as one, and survive the loss of workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import jaxtyping
import pytest

from alps.assign.rows import Rows
from alps.errors import ConfigError, ItemCrashed, StoreError, WorkersLost
from alps.labelling.engine.local import LocalEngine, LocalProcesses
from alps.labelling.engine.pool import WorkerPool
from tests.fakes import ArrayImages
from tests.labelling.engine.runs import IMAGES, arrays, files, run
from tests.labelling.engine.tasks import (
    add_one,
    choose_gpu,
    die_at_five,
    raise_unpicklable,
    square,
)

ROOT = Path(__file__).parents[3]
MAIN = "from tests.labelling.engine import runs; runs.main"
ONE, TWO = LocalEngine(threads=1), LocalEngine(processes=2, threads=2)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    root = tmp_path_factory.mktemp("one") / "store"
    run(root, ONE)
    return files(root)


def start(root, processes, pause):
    return subprocess.Popen(
        [sys.executable, "-c", f"{MAIN}({str(root)!r}, {processes}, {pause})"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition):
    """Return the value of the condition once it is true; a busy machine may take minutes."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("the condition did not become true in 200 s")


def shards(root):
    return sorted(p.stem for p in (Path(root) / "masks").glob("*.parquet"))


def children(pid):
    """The spawned workers of a process."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                pids.append(int(path.name))
    return sorted(pids)


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_two_processes_write_the_same_files_as_one(tmp_path, expected, caplog):
    store, timings = run(tmp_path / "store", TWO)
    assert files(tmp_path / "store") == expected
    assert sorted(p.name for p in store.root.iterdir() if p.name.startswith(".")) == []
    assert timings.images["masks"] == timings.images["features"] == IMAGES
    assert timings.images["labels"] == IMAGES + 1
    assert timings.seconds["masks"] > 0
    assert len(Rows(store.all_features()).parts(1)) >= 3  # or workers had no sums to add up
    # Warnings of a worker appear in the log of the run.
    assert caplog.text.count("skipped site/broken.png: site/broken.png: truncated") == 1


def test_two_concurrent_runs_share_the_shards_of_one_store(tmp_path, expected):
    other = start(tmp_path / "store", 1, 0.3)
    wait_for(lambda: shards(tmp_path / "store"))
    _, timings = run(tmp_path / "store", ONE, pause=0.3)
    _, stderr = other.communicate(timeout=200)
    assert other.returncode == 0, stderr
    assert files(tmp_path / "store") == expected
    assert 0 < timings.images["masks"] < IMAGES


def test_a_signal_ends_all_workers_and_a_run_with_other_processes_resumes(tmp_path, expected):
    check_signal(tmp_path / "store", expected, signal.SIGINT, 2)  # the other: tests/matrix


def check_signal(root, expected, number, processes):
    program = start(root, processes, 0.3)
    wait_for(lambda: len(shards(root)) >= 2)
    workers = children(program.pid)
    assert len(workers) == (processes if processes > 1 else 0)
    os.kill(program.pid, number)
    _, stderr = program.communicate(timeout=200)
    assert program.returncode == 128 + number
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    assert f"\n{word}: the same command resumes\n" in stderr
    assert "Traceback" not in stderr
    assert alive(workers) == []
    assert not (root / ".claims").exists()
    assert list((root / ".tmp").iterdir()) == [] or processes == 2  # killed workers leave theirs
    assert len(shards(root)) < IMAGES
    run(root, TWO if processes == 1 else ONE)
    assert files(root) == expected


def test_the_shard_of_a_killed_worker_is_repeated_by_another_and_logged(tmp_path, expected, caplog):
    root = tmp_path / "store"

    def kill():
        wait_for(lambda: shards(root))
        os.kill(children(os.getpid())[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run(root, TWO, pause=0.2)
    killer.join()
    assert files(root) == expected
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "alps.labelling.engine.pool"]
    assert (
        "was killed (SIGKILL, often because memory ran out); another worker repeats its item"
        in warning
    )


def test_workers_of_a_killed_run_exit_and_the_run_is_resumed(tmp_path, expected):
    root = tmp_path / "store"
    program = start(root, 2, 0.3)
    wait_for(lambda: len(shards(root)) >= 2)
    workers = children(program.pid)
    program.kill()
    program.communicate()
    wait_for(lambda: not alive(workers))
    assert (root / ".claims").exists()
    run(root, ONE)  # does not wait until claims of dead processes expire by their age
    assert files(root) == expected


def test_the_run_fails_only_when_all_workers_are_dead(tmp_path, caplog):
    with (
        TWO.workers() as run_tasks,
        pytest.raises(
            WorkersLost, match=r"all workers have died.*\(SIGKILL.*repeat the command to resume"
        ),
    ):
        list(run_tasks(add_one, [str(tmp_path / name) for name in "abc"]))
    assert "(1 workers remaining)" in caplog.text


def test_the_error_names_an_item_that_kills_its_workers(caplog):
    with (
        LocalEngine(processes=3, threads=1).workers() as run_tasks,
        pytest.raises(ItemCrashed, match=r"item 5 .*\(SIGKILL") as raised,
    ):
        list(run_tasks(die_at_five, range(8)))
    assert raised.value.index == 5
    assert caplog.text.count("another worker repeats its item") == 2


class KillingImages(ArrayImages):
    """Reading one image kills the process."""

    def read(self, record):
        if record.image_id == "site/03":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(record)


def test_the_error_names_an_image_that_kills_its_workers(tmp_path):
    with pytest.raises(
        WorkersLost, match=r"shard 3 .*; the cause is site/03\.png or one of the 24"
    ):
        run(
            tmp_path / "store",
            TWO,
            images=KillingImages({k: v for k, v in arrays().items() if k != "site/broken"}),
        )


def test_values_are_returned_with_the_index_of_their_item_by_workers_that_share_a_gpu(caplog):
    with WorkerPool(LocalProcesses(2, 1, ["0", "0"])) as pool:
        assert sorted(pool.run(square, range(40))) == [(i, i * i) for i in range(40)]
        assert dict(pool.run(square, iter(range(3)))) == {0: 0, 1: 1, 2: 4}
        assert list(pool.run(square, [])) == []
        values = [value for _, value in pool.run(choose_gpu, range(4))]
    assert caplog.text.count("squared") == 43
    assert values == [("0", [0.45])] * 4  # of its memory


@pytest.mark.parametrize(
    ("task", "items", "error", "message"),
    [
        (square, [1, -1], StoreError, "^cannot write -1$"),
        (square, [101], ZeroDivisionError, "101"),
        (raise_unpicklable, [1], RuntimeError, "UnpicklableError: 1 1"),
        (lambda number: number, [1], ConfigError, "cannot be sent to another process.*processes=1"),
    ],
)
def test_an_exception_in_a_worker_is_raised_in_the_run(task, items, error, message):
    one_worker = WorkerPool(LocalProcesses(1, 1, []))
    with one_worker as pool, pytest.raises(error, match=message) as raised:
        list(pool.run(task, items))
    if error is ZeroDivisionError:
        assert "in square" in raised.value.__notes__[0]


@pytest.mark.parametrize(
    ("key", "value"), [("processes", 0), ("processes", "many"), ("threads", 0), ("threads", "x")]
)
def test_invalid_numbers_are_refused(monkeypatch, key, value):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are the user's
    with pytest.raises(ConfigError, match=rf"^{key}={value}: expected .*an integer >= 1"):
        LocalEngine(**{key: value})
