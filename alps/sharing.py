"""Shards shared by all runs on a store, and by the workers of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from alps.claims import Claims
from alps.summary import Timings

#: Do a task for every item: (place of the item, value), as the values come. A task is a function
#: that gives one value, or a generator of several; items are asked for when a worker is free.
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[int, Any]]]


def share(
    task: Callable[[int], Iterator[int | Timings] | Timings],
    shards: Sequence[int],
    *,
    stage: str,
    is_done: Callable[[int], bool],
    claims: Claims,
    run: Run,
    rank: int,
    world: int,
) -> Iterator[tuple[int, int | Timings]]:
    """Do what is left of a stage; ends when all of it is done, by whomever.

    Run r of n takes shards r::n first and then what the others have left. A shard that another run
    has claimed is waited for, and taken over when the claim expires.

    Args:
        task: does a shard and commits it. It may yield how many images are done so far, and gives
            in the end what they took.
        shards: those to do.
        stage: what the claims are called.
        is_done: whether a shard is committed.
        claims: of this run.
        run: gives shards to workers.
        rank: which of the runs this is.
        world: how many runs a launcher has begun.

    Yields:
        (shard, what the task yields), and (shard, empty `Timings`) for a shard that another did.
    """
    turns = [(rank + i) % world for i in range(world)]
    left = dict.fromkeys(shard for turn in turns for shard in shards[turn::world])

    def free() -> Iterator[int]:
        for shard in list(left):
            name = _claim(stage, shard)
            if not is_done(shard) and claims.take(name):
                if is_done(shard):  # by the one who had the claim a moment ago
                    claims.release(name)
                else:
                    taken.append(shard)
                    yield shard

    while left:
        taken: list[int] = []
        for place, value in run(task, free()):
            shard = taken[place]
            if isinstance(value, Timings):
                claims.release(_claim(stage, shard))
                del left[shard]
            yield shard, value
        elsewhere = [shard for shard in left if is_done(shard)]
        for shard in elsewhere:
            del left[shard]
            yield shard, Timings()
        if left and not taken and not elsewhere:
            claims.wait(_claim(stage, next(iter(left))))


def in_order(run: Run) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
    """``map``, done by workers: of tasks that give one value."""

    def mapped(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        early: dict[int, Any] = {}
        due = 0
        for place, value in run(task, items):
            early[place] = value
            while due in early:
                yield early.pop(due)
                due += 1

    return mapped


def _claim(stage: str, shard: int) -> str:
    return f"{stage}-{shard:05d}"
