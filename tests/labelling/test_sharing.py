"""What all runs on a store work out together is what one of them would."""

import threading
from functools import partial

import numpy as np
import pytest

from alps.labelling.engine.local import run_here
from alps.labelling.sharing import map_together, share
from alps.labelling.timings import Timings
from alps.store.claims import Claims

ITEMS = [np.full(3, i, np.float64) for i in range(12)]


class Worker:
    """Knows what it was asked to do."""

    def __init__(self):
        self.done = []

    def __call__(self, item):
        self.done.append(int(item[0]))
        return item / 3, float(item.sum()) / 7


def mapper(root, claims):
    return map_together(partial(share, claims=claims, run=run_here, rank=0, world=1), root / "x")


def values(found):
    return [(a.tolist(), float(b)) for a, b in found]


EXPECTED = values(map(Worker(), ITEMS))


def test_the_values_and_their_order_are_those_of_map(tmp_path):
    with Claims(tmp_path) as claims:
        assert values(mapper(tmp_path, claims)(Worker(), iter(ITEMS))) == EXPECTED


def test_runs_share_the_parts_and_all_get_all_values(tmp_path):
    workers, found = [Worker(), Worker()], {}
    start = threading.Barrier(2)

    def act(i):
        with Claims(tmp_path) as claims:
            mapped = mapper(tmp_path, claims)
            for call in range(3):
                start.wait()
                found[i, call] = values(mapped(workers[i], ITEMS))

    threads = [threading.Thread(target=act, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i, call] for i in range(2) for call in range(3)] == 6 * [EXPECTED]
    done = sorted(workers[0].done + workers[1].done)
    assert done == sorted([*range(12)] * 3)  # each part of each call once, by either


def test_a_run_that_was_killed_goes_on_with_the_parts_that_are_there(tmp_path):
    class Killed(Worker):
        def __call__(self, item):
            if len(self.done) == 5:
                raise KeyboardInterrupt
            return super().__call__(item)

    with Claims(tmp_path) as claims, pytest.raises(KeyboardInterrupt):
        list(mapper(tmp_path, claims)(Killed(), ITEMS))
    worker = Worker()
    with Claims(tmp_path) as claims:
        assert values(mapper(tmp_path, claims)(worker, ITEMS)) == EXPECTED
    assert worker.done == [*range(5, 12)]


def test_files_of_calls_that_are_over_are_removed(tmp_path):
    with Claims(tmp_path) as claims:
        mapped = mapper(tmp_path, claims)
        for _ in range(4):
            list(mapped(Worker(), ITEMS))
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["00002", "00003"]


def test_a_part_that_the_others_have_removed_is_done_again(tmp_path):
    with Claims(tmp_path) as claims:
        found = mapper(tmp_path, claims)(Worker(), ITEMS)
        first = next(found)
        (tmp_path / "x/00000/00007.npz").unlink()
        assert values([first, *found]) == EXPECTED


def test_a_worker_that_dies_after_its_last_word_is_no_loss(tmp_path):
    """The shard is done twice, and told twice."""

    def told_twice(task, items):
        for place, item in enumerate(items):
            yield place, task(item)
            yield place, task(item)

    with Claims(tmp_path) as claims:
        found = share(
            lambda _: Timings(),
            [4, 7],
            stage="masks",
            is_done=lambda _: False,
            claims=claims,
            run=told_twice,
            rank=0,
            world=1,
        )
        assert [shard for shard, _ in found] == [4, 7]
