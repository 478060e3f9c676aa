"""Claims prevent duplicate work, and never block work that no process does."""

import errno
import io
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from alps.errors import StoreError
from alps.store import claims
from alps.store.claims import Claims
from alps.store.processes import HOST, is_alive, start_time


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def put(root, name, **who):
    """Write a claim of another process."""
    path = root / ".claims" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": HOST, "pid": os.getppid(), "started": None, **who}))
    return path


def test_a_claim_has_one_holder_until_it_is_released(tmp_path):
    with Claims(tmp_path) as ours:
        assert ours.take("masks-00000")
        with Claims(tmp_path) as theirs:
            assert not theirs.take("masks-00000")
            assert theirs.take("masks-00001")
            assert ours.other_claims() == ["masks-00001"]
            ours.release("masks-00000")
            assert theirs.take("masks-00000")
        assert ours.other_claims() == []
        assert ours.take("masks-00000")
        who = json.loads((tmp_path / ".claims/masks-00000").read_text())
        assert (who["host"], who["pid"]) == (HOST, os.getpid())
        assert abs(who["time"] - time.time()) < 60
    assert list(tmp_path.iterdir()) == []


def test_claims_are_released_when_the_work_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), Claims(tmp_path) as ours, ours.exclusive("clusters"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("who", "free"),
    [
        ({"pid": dead_pid()}, True),
        ({"started": -1}, True),  # the process id was reused
        ({}, False),
        ({"pid": dead_pid(), "host": "elsewhere"}, False),
    ],
)
def test_a_claim_of_a_dead_process_of_this_machine_is_free(tmp_path, who, free):
    put(tmp_path, "labels-00003", **who)
    with Claims(tmp_path) as ours:
        assert ours.other_claims() == ([] if free else ["labels-00003"])
        assert ours.take("labels-00003") == free


@pytest.mark.parametrize(("age", "free"), [(100, False), (200, True)])
@pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1, "started": 5}', "", "[1]"])
def test_a_claim_that_is_not_renewed_expires(tmp_path, age, free, content):
    path = put(tmp_path, "masks-00000")
    path.write_text(content)  # also one whose process died while it wrote it
    then = time.time() - age
    os.utime(path, (then, then))
    with Claims(tmp_path) as ours:
        assert ours.take("masks-00000") == free


def test_held_claims_are_renewed(tmp_path):
    with Claims(tmp_path, expiry=0.4) as ours:
        ours.take("masks-00000")
        path = tmp_path / ".claims/masks-00000"
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:  # the test ends when it is renewed
            time.sleep(0.01)


def test_a_claim_that_was_taken_over_is_not_released(tmp_path):
    with Claims(tmp_path) as slow:
        slow.take("masks-00000")
        other = put(tmp_path, "masks-00000", pid=os.getppid())
    assert other.exists()


def race(root, start, wins):
    with Claims(root) as ours:
        start.wait()
        won = [name for name in map(str, range(60)) if ours.take(name)]
        wins.put(won)
        start.wait()  # hold them until all have tried


def test_of_racing_processes_one_gets_each_claim(tmp_path):
    """Half of the claims are there already, of a dead process: taking over is a race, too."""
    dead = dead_pid()
    for i in range(0, 60, 2):
        put(tmp_path, str(i), pid=dead)
    context = multiprocessing.get_context("spawn")
    start, wins = context.Barrier(3, timeout=200), context.Queue()
    racers = [
        context.Process(target=race, args=(tmp_path, start, wins), daemon=True) for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    won = [name for _ in racers for name in wins.get(timeout=200)]
    for racer in racers:
        racer.join()
    assert sorted(won, key=int) == [str(i) for i in range(60)]


def test_waiting_logs_the_holder_once(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(claims, "LOG_AFTER", -1.0)
    monkeypatch.setattr(claims, "POLL_INTERVAL", 0.0)
    put(tmp_path, "clusters", host="elsewhere", pid=7)
    with Claims(tmp_path) as ours:
        ours.wait("clusters")
        ours.wait("clusters")
    assert caplog.text.count("waiting for clusters: process 7 on elsewhere") == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        Claims(tmp_path / "file") as ours,
        pytest.raises(StoreError, match=r"cannot write .*masks-00000: Not a directory; .*DIR"),
    ):
        ours.take("masks-00000")


def test_processes_are_identified_by_id_and_start_time():
    assert is_alive(os.getpid(), start_time(os.getpid()))
    assert not is_alive(dead_pid())
    zombie = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    zombie.stdout.read()  # until it has ended; nobody has waited for it
    while is_alive(zombie.pid):  # the test ends when it is a zombie
        time.sleep(0.01)
    zombie.wait()
    zombie.stdout.close()


def test_an_empty_claim_is_removed_by_its_creator(tmp_path, monkeypatch):
    real = claims.Path.open

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    def fill(path, mode, **options):
        if mode != "xb":
            return real(path, mode, **options)
        real(path, mode).close()
        return Full()

    with Claims(tmp_path) as ours:
        with monkeypatch.context() as patch, pytest.raises(StoreError, match="No space left"):
            patch.setattr(claims.Path, "open", fill)
            ours.take("masks-00000")
        assert not (tmp_path / ".claims/masks-00000").exists()
        assert ours.take("masks-00000")


def test_a_live_claim_does_not_expire_while_another_run_leaves(tmp_path, monkeypatch):
    """The other run removes the file that serves as the clock while it is read."""
    put(tmp_path, "masks-00000")
    real, gone = claims.Path.touch, []

    def touch_and_lose(path, **options):
        real(path, **options)
        if not gone:
            gone.append(path)
            path.unlink()

    monkeypatch.setattr(claims.Path, "touch", touch_and_lose)
    with Claims(tmp_path) as ours:
        assert ours.other_claims() == ["masks-00000"]
        assert gone
