"""Shards shared by all runs on a store, and by the workers of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from alps.errors import PieceLost
from alps.labelling.timings import Timings
from alps.protocols import Mapper, Run
from alps.store.atomic import atomic
from alps.store.claims import Claims


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
    item: Callable[[int], Any] = int,
) -> Iterator[tuple[int, int | Timings]]:
    """Do what is left of a stage; ends when all of it is done, by whomever.

    Run r of n takes shards r::n of the plan first and then what the others have left. A shard that
    another run has claimed is waited for, and taken over when the claim expires.

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
        item: what the task is given for a shard; its number by default.

    Yields:
        (shard, what the task yields), and (shard, empty `Timings`) for a shard that another did.
    """
    turns = [(rank + i) % world for i in range(world)]
    left = dict.fromkeys(shard for turn in turns for shard in shards if shard % world == turn)

    def free() -> Iterator[int]:
        for shard in list(left):
            name = _claim(stage, shard)
            if not is_done(shard) and claims.take(name):
                if is_done(shard):  # by the one who had the claim a moment ago
                    claims.release(name)
                else:
                    taken.append(shard)
                    yield item(shard)

    while left:
        taken: list[int] = []
        for place, value in _named(run(task, free()), taken):
            shard = taken[place]
            if isinstance(value, Timings):
                claims.release(_claim(stage, shard))
                if shard not in left:  # of a worker that died after it had told it
                    continue
                del left[shard]
            yield shard, value
        elsewhere = [shard for shard in left if is_done(shard)]
        for shard in elsewhere:
            del left[shard]
            yield shard, Timings()
        if left and not taken and not elsewhere:
            claims.wait(_claim(stage, next(iter(left))))


def _named(values: Iterator[tuple[int, Any]], taken: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """The same values; a piece that is lost is a shard."""
    try:
        yield from values
    except PieceLost as error:
        raise PieceLost(taken[error.place], error.why) from error


def map_together(runs: Callable[..., Iterator[Any]], folder: Path) -> Mapper:
    """``map`` of tasks that give tuples of arrays and numbers, done by all runs on a store.

    Every run asks for the same: its n-th call is the n-th of the others, too. What a part gives
    lies in a file until the call after the next, so a run that was killed goes on where it was.
    The order of the values is that of the items, and their bytes are the same, whoever did them.

    Args:
        runs: `share`, without what it does.
        folder: of these files; what is fitted decides on its name.
    """
    calls = count()

    def mapped(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        number, items = next(calls), list(items)
        here = folder / f"{number:05d}"
        shutil.rmtree(folder / f"{number - 2:05d}", ignore_errors=True)
        for _ in runs(
            partial(_do_part, task, here),
            range(len(items)),
            stage=f"part-{number:05d}",
            is_done=lambda part: _file(here, part).exists(),
            item=lambda part: (part, items[part]),
        ):
            pass
        for part, item in enumerate(items):
            try:
                yield _read_part(here, part)
            except FileNotFoundError:  # the others are two calls ahead
                yield task(item)

    return mapped


def _do_part(task: Callable[[Any], Any], folder: Path, item: tuple[int, Any]) -> Timings:
    part, content = item
    with atomic(folder, _file(folder, part).name) as file:
        np.savez(file, *task(content))
    return Timings()


def _read_part(folder: Path, part: int) -> tuple[np.ndarray, ...]:
    with np.load(_file(folder, part)) as file:
        return tuple(file[name] for name in file.files)


def _file(folder: Path, part: int) -> Path:
    return folder / f"{part:05d}.npz"


def _claim(stage: str, shard: int) -> str:
    return f"{stage}-{shard:05d}"
