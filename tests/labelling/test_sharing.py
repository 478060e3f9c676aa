"""A map that several runs share returns the same values as a single run."""

import io
import threading
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from alps.errors import StoreError
from alps.labelling import sharing
from alps.labelling.engine.local import run_in_process
from alps.labelling.sharing import map_together, share
from alps.labelling.timings import Timings
from alps.store.claims import Claims

ITEMS = [np.full(3, i, np.float64) for i in range(12)]


class RecordingTask:
    """A task that records the items it was called with."""

    def __init__(self):
        self.done = []

    def __call__(self, item):
        self.done.append(int(item[0]))
        return item / 3, float(item.sum()) / 7


def mapper(root, claims):
    return map_together(
        partial(share, claims=claims, run=run_in_process, rank=0, world_size=1), root / "x"
    )


def values(results):
    return [(a.tolist(), float(b)) for a, b in results]


EXPECTED = values(map(RecordingTask(), ITEMS))


def test_values_and_order_equal_those_of_map(tmp_path):
    with Claims(tmp_path) as claims:
        assert values(mapper(tmp_path, claims)(RecordingTask(), iter(ITEMS))) == EXPECTED


def test_runs_share_the_parts_and_each_receives_all_values(tmp_path):
    tasks, results = [RecordingTask(), RecordingTask()], {}
    start = threading.Barrier(2)

    def run(i):
        with Claims(tmp_path) as claims:
            mapped = mapper(tmp_path, claims)
            for call in range(3):
                start.wait()
                results[i, call] = values(mapped(tasks[i], ITEMS))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[i, call] for i in range(2) for call in range(3)] == 6 * [EXPECTED]
    done = sorted(tasks[0].done + tasks[1].done)
    assert done == sorted(
        [*range(12)] * 3
    )  # each part of each call is computed once, by either run


def test_a_part_that_another_run_has_deleted_is_computed_again(tmp_path, monkeypatch):
    @contextmanager
    def deleted(folder, name):
        yield io.BytesIO()
        raise StoreError("cannot write") from FileNotFoundError(folder)

    monkeypatch.setattr(sharing, "atomic", deleted)
    with Claims(tmp_path) as claims:
        assert values(mapper(tmp_path, claims)(RecordingTask(), ITEMS)) == EXPECTED


def test_a_killed_run_resumes_with_the_stored_parts(tmp_path):
    class KilledWorker(RecordingTask):
        def __call__(self, item):
            if len(self.done) == 5:
                raise KeyboardInterrupt
            return super().__call__(item)

    with Claims(tmp_path) as claims, pytest.raises(KeyboardInterrupt):
        list(mapper(tmp_path, claims)(KilledWorker(), ITEMS))
    task = RecordingTask()
    with Claims(tmp_path) as claims:
        assert values(mapper(tmp_path, claims)(task, ITEMS)) == EXPECTED
    assert task.done == [*range(5, 12)]


def test_result_files_are_removed_after_two_more_calls(tmp_path):
    with Claims(tmp_path) as claims:
        mapped = mapper(tmp_path, claims)
        for _ in range(4):
            list(mapped(RecordingTask(), ITEMS))
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["00002", "00003"]


def test_a_part_that_another_run_has_removed_is_computed_again(tmp_path):
    with Claims(tmp_path) as claims:
        results = mapper(tmp_path, claims)(RecordingTask(), ITEMS)
        first = next(results)
        (tmp_path / "x/00000/00007.npz").unlink()
        assert values([first, *results]) == EXPECTED


def test_a_shard_that_is_reported_twice_is_yielded_once(tmp_path):
    """As if the worker had died after it reported the shard."""

    def run_twice(task, items):
        for place, item in enumerate(items):
            yield place, task(item)
            yield place, task(item)

    with Claims(tmp_path) as claims:
        results = share(
            lambda _: Timings(),
            [4, 7],
            stage="masks",
            is_done=lambda _: False,
            claims=claims,
            run=run_twice,
            rank=0,
            world_size=1,
        )
        assert [shard for shard, _ in results] == [4, 7]
