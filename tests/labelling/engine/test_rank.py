"""Runs of one launcher read their rank and share the shards accordingly."""

from itertools import chain

import pytest

from alps.labelling.engine.local import run_in_process
from alps.labelling.engine.rank import LAUNCHERS, LauncherRank, read_rank
from alps.labelling.sharing import share
from alps.labelling.timings import Timings
from alps.store.claims import Claims

BATCH = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
SLURM = BATCH | {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
MPI = {"PMI_RANK": "1", "PMI_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, LauncherRank()),
        (SLURM, LauncherRank(5, 8, 1)),
        (BATCH, LauncherRank()),
        (TORCHRUN, LauncherRank(3, 4, 1)),
        (SLURM | TORCHRUN, LauncherRank(3, 4, 1)),
        (MPI, LauncherRank(1, 2, 0)),
        ({"RANK": "", "WORLD_SIZE": ""}, LauncherRank()),
    ],
)
def test_the_rank_is_read_from_the_variables_of_the_launcher(monkeypatch, environment, rank):
    for name in chain(*LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert read_rank() == rank


def share_order(root, rank, world_size, done, claimed=()):
    """Return the order in which a run processes ten shards."""
    order = []

    def task(shard):
        order.append(shard)
        done.add(shard)
        return Timings()

    with Claims(root) as claims, Claims(root) as other_claims:
        for shard in claimed:
            other_claims.take(f"masks-{shard:05d}")
        values = share(
            *(task, range(10)),
            stage="masks",
            is_done=done.__contains__,
            claims=claims,
            run=run_in_process,
            rank=rank,
            world_size=world_size,
        )
        shards = []
        for shard, _ in values:
            shards.append(shard)
            if len(shards) + len(claimed) == 10:  # the other run finishes its shards last
                for other in claimed:
                    done.add(other)
                    other_claims.release(f"masks-{other:05d}")
    assert sorted(shards) == list(range(10))
    return order


@pytest.mark.parametrize("rank", range(3))
def test_a_run_processes_its_own_shards_before_the_remaining_ones(tmp_path, rank):
    order = share_order(tmp_path, rank, 3, set())
    own = list(range(rank, 10, 3))
    assert order[: len(own)] == own
    assert sorted(order) == list(range(10))


def test_a_run_waits_for_shards_that_another_run_has_claimed(tmp_path):
    assert share_order(tmp_path, 0, 1, {4}, claimed=(2, 7)) == [0, 1, 3, 5, 6, 8, 9]
