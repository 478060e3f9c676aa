"""Distribution of shards among all runs on a store and the workers of each run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from alps.errors import ItemCrashed, StoreError
from alps.labelling.timings import Timings
from alps.protocols import Mapper, TaskRunner
from alps.store.atomic import atomic
from alps.store.claims import Claims


def share(
    task: Callable[[int], Iterator[int | Timings] | Timings],
    shards: Sequence[int],
    *,
    stage: str,
    is_done: Callable[[int], bool],
    claims: Claims,
    run: TaskRunner,
    rank: int,
    world_size: int,
    item: Callable[[int], Any] = int,
) -> Iterator[tuple[int, int | Timings]]:
    """Process the remaining shards of a stage, together with the other runs, until all are done.

    Run r of n first processes the shards r::n, then unclaimed shards of the other runs. It waits
    for claimed shards, and processes them if the claim expires.

    Args:
        task: processes a shard and commits it. It may yield the number of finished images, and
            returns or finally yields its times.
        shards: numbers of the shards to process.
        stage: prefix of the names of the claims.
        is_done: returns whether a shard is committed.
        claims: claims of this run.
        run: runs a task on items in the workers.
        rank: rank of this run.
        world_size: number of runs that the launcher has started.
        item: function from the number of a shard to the argument of the task; by default the
            number.

    Yields:
        (shard, value of the task), and (shard, empty `Timings`) for a shard that another run has
        processed.
    """
    ranks = [(rank + i) % world_size for i in range(world_size)]
    remaining = dict.fromkeys(
        shard for first in ranks for shard in shards if shard % world_size == first
    )

    def claim_shards() -> Iterator[int]:
        for shard in list(remaining):
            name = _claim_name(stage, shard)
            if not is_done(shard) and claims.take(name):
                if is_done(shard):  # another run finished it and has just released the claim
                    claims.release(name)
                else:
                    claimed.append(shard)
                    yield item(shard)

    while remaining:
        claimed: list[int] = []
        for index, value in _name_lost_shard(run(task, claim_shards()), claimed):
            shard = claimed[index]
            if isinstance(value, Timings):
                claims.release(_claim_name(stage, shard))
                if shard not in remaining:  # repeated, since a worker died just after finishing it
                    continue
                del remaining[shard]
            yield shard, value
        finished_by_others = [shard for shard in remaining if is_done(shard)]
        for shard in finished_by_others:
            del remaining[shard]
            yield shard, Timings()
        if remaining and not claimed and not finished_by_others:
            claims.wait(_claim_name(stage, next(iter(remaining))))


def _name_lost_shard(
    values: Iterator[tuple[int, Any]], claimed: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """Yield the values unchanged, but raise `ItemCrashed` with the number of the shard."""
    try:
        yield from values
    except ItemCrashed as error:
        raise ItemCrashed(claimed[error.index], error.why) from error


def map_together(runs: Callable[..., Iterator[Any]], folder: Path) -> Mapper:
    """Return a ``map`` that divides its items among all runs on a store.

    Tasks return tuples of arrays and numbers. Every run must make the same calls in the same order.
    The results of a call are kept in files until the second call after it, so that a killed run
    resumes. Values are in the order of the items and do not depend on which run computed them.

    Args:
        runs: `share` with the arguments of this run bound.
        folder: folder of the result files, named after the fingerprint of the fitted stage.

    Returns:
        The function, with the interface of ``map``.
    """
    calls = count()

    def mapped(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        number, items = next(calls), list(items)
        results = folder / f"{number:05d}"
        shutil.rmtree(folder / f"{number - 2:05d}", ignore_errors=True)
        for _ in runs(
            partial(_save_part, task, results),
            range(len(items)),
            stage=f"part-{number:05d}",
            is_done=lambda part: _part_path(results, part).exists(),
            item=lambda part: (part, items[part]),
        ):
            pass
        for part, item in enumerate(items):
            try:
                yield _read_part(results, part)
            except FileNotFoundError:  # deleted by a run that is two calls ahead
                yield task(item)

    return mapped


def _save_part(task: Callable[[Any], Any], folder: Path, item: tuple[int, Any]) -> Timings:
    part, content = item
    arrays = task(content)
    try:
        with atomic(folder, _part_path(folder, part).name) as file:
            np.savez(file, *arrays)
    except StoreError as error:
        # A run that is two calls ahead has deleted the folder; `map_together` computes it again.
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    return Timings()


def _read_part(folder: Path, part: int) -> tuple[np.ndarray, ...]:
    with np.load(_part_path(folder, part)) as file:
        return tuple(file[name] for name in file.files)


def _part_path(folder: Path, part: int) -> Path:
    return folder / f"{part:05d}.npz"


def _claim_name(stage: str, shard: int) -> str:
    return f"{stage}-{shard:05d}"
