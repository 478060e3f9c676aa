"""The stages of labelling: what overlaps, what is bounded, and in which order values come."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
import torch

from alps.errors import StoreError
from alps.labelling.stages import IMAGES, IN_FLIGHT, PIXELS, finish_in_order, read_ahead

#: Seconds after which a thread that waits for another one fails instead of hanging.
PATIENCE = 30


def one(_):
    return 1


def groups_of(sizes):
    """The groups of items that have these numbers of pixels."""
    return list(read_ahead(lambda size: size, sizes, pixels=lambda size: size))


def test_groups_are_full_and_a_large_image_is_alone():
    assert groups_of([1] * (2 * IMAGES + 1)) == [[1] * IMAGES, [1] * IMAGES, [1]]
    half = PIXELS // 2
    assert groups_of([half, half, half]) == [[half, half], [half]]
    assert groups_of([1, 2 * PIXELS, 1]) == [[1], [2 * PIXELS], [1]]
    assert groups_of([]) == []


def test_reading_is_one_group_ahead_of_a_slow_device():
    started = [Event() for _ in range(4 * IMAGES)]

    def read(i):
        started[i].set()
        return i

    groups = read_ahead(read, range(4 * IMAGES), pixels=one)
    next(groups)
    assert started[2 * IMAGES - 1].wait(PATIENCE)  # the next group is read meanwhile
    assert not started[2 * IMAGES].is_set()
    assert [i for group in groups for i in group] == [*range(IMAGES, 4 * IMAGES)]


def test_the_three_stages_work_on_three_images_at_the_same_time():
    """Each waits until the other two have begun, which would never end one after the other."""
    together = Barrier(3, timeout=PATIENCE)
    last = 3 * IMAGES

    def read(i):
        if i == 2 * IMAGES:  # read while the second group is on the device
            together.wait()
        return i

    def device():
        for group in read_ahead(read, range(last), pixels=one):
            for i in group:
                if i == IMAGES + 1:
                    together.wait()
                yield i

    def finish(i):
        if i == IMAGES:
            together.wait()
        return i

    assert [*finish_in_order(finish, device(), pixels=one, threads=1)] == [*range(last)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_values_keep_their_order(threads):
    """The first images are finished last."""
    done = [Event() for _ in range(4)]

    def finish(i):
        if i + 1 < threads and i + 1 < len(done):
            assert done[i + 1].wait(PATIENCE)
        done[i].set()
        return -i

    assert [*finish_in_order(finish, range(4), pixels=one, threads=threads)] == [0, -1, -2, -3]


@pytest.mark.parametrize(("size", "limit"), [(1, IMAGES), (PIXELS // 2, 2), (2 * PIXELS, 1)])
def test_a_slow_last_stage_stops_the_device(size, limit):
    full, finishing = Event(), Event()

    def device():
        for i in range(3 * IMAGES):
            if i == limit - 1:
                full.set()
            if i == limit:
                assert finishing.is_set()
            yield i

    def finish(i):
        assert finishing.wait(PATIENCE)
        return i

    def open_when_full():
        assert full.wait(PATIENCE)
        finishing.set()

    threading.Thread(target=open_when_full).start()
    values = finish_in_order(finish, device(), pixels=lambda _: size, threads=2)
    assert [*values] == [*range(3 * IMAGES)]


class Picture:
    """An item that can be counted while it is alive."""

    def __init__(self, number):
        self.number = number


@pytest.mark.parametrize("slow", ["reader", "device", "finisher"])
def test_few_images_are_in_memory_whichever_stage_is_slow(slow):
    alive: weakref.WeakSet[Picture] = weakref.WeakSet()
    counts = []
    never = Event()  # waiting for it gives the other stages time

    def work(stage, picture):
        if stage == slow:
            never.wait(0.001)
        return picture

    def read(i):
        picture = Picture(i)
        alive.add(picture)
        counts.append(len(alive))
        return work("reader", picture)

    def device():
        for group in read_ahead(read, range(80), pixels=one):
            for picture in group:
                yield work("device", picture)

    def finish(picture):
        return work("finisher", picture).number

    assert [*finish_in_order(finish, device(), pixels=one, threads=2)] == [*range(80)]
    assert max(counts) <= IN_FLIGHT + 1  # and one that has just been finished


def thread_ids():
    return {thread.ident for thread in threading.enumerate()}


@pytest.mark.parametrize("where", ["reader", "device", "finisher"])
def test_an_error_comes_in_its_place_and_ends_all_threads(where):
    before, number = thread_ids(), IMAGES + 2

    def work(stage, i):
        if (stage, i) == (where, number):
            raise StoreError("no space left")
        return i

    def device():
        for group in read_ahead(lambda i: work("reader", i), range(80), pixels=one):
            yield from (work("device", i) for i in group)

    finished = finish_in_order(lambda i: work("finisher", i), device(), pixels=one, threads=2)
    seen = []
    with pytest.raises(StoreError, match="no space left"):
        seen.extend(finished)
    assert seen == [*range(len(seen))]
    assert len(seen) <= number
    if where == "finisher":
        assert len(seen) == number
    assert thread_ids() == before


def test_an_interrupted_run_reads_no_further_image(monkeypatch):
    read, reading, interrupted = [], Event(), Event()
    shutdown = ThreadPoolExecutor.shutdown

    def interrupt(pool, **options):
        interrupted.set()
        shutdown(pool, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", interrupt)

    def slow(i):
        read.append(i)
        if i == IMAGES:
            reading.set()
            assert interrupted.wait(PATIENCE)
        return i

    groups = read_ahead(slow, range(10 * IMAGES), pixels=one)
    next(groups)
    assert reading.wait(PATIENCE)
    groups.close()  # as an exception in the caller does
    assert read == [*range(IMAGES + 1)]
    with pytest.raises(StopIteration):
        next(groups)


def test_threads_of_a_stage_have_as_many_pytorch_threads_as_the_caller():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        finished = finish_in_order(lambda _: torch.get_num_threads(), [0], pixels=one, threads=1)
        assert [*finished] == [3]
    finally:
        torch.set_num_threads(before)
