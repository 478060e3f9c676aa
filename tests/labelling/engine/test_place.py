"""Several runs of one launcher know which they are."""

from itertools import chain

import pytest

from alps.labelling.engine.local import run_here
from alps.labelling.engine.place import LAUNCHERS, Place, find_place
from alps.labelling.sharing import share
from alps.labelling.timings import Timings
from alps.store.claims import Claims

BATCH = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
SLURM = BATCH | {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
MPI = {"PMI_RANK": "1", "PMI_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place()),
        (SLURM, Place(5, 8, 1)),
        (BATCH, Place()),
        (TORCHRUN, Place(3, 4, 1)),
        (SLURM | TORCHRUN, Place(3, 4, 1)),
        (MPI, Place(1, 2, 0)),
        ({"RANK": "", "WORLD_SIZE": ""}, Place()),
    ],
)
def test_the_launcher_says_which_run_this_is(monkeypatch, environment, place):
    for name in chain(*LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_place() == place


def shared(root, rank, world, done, claimed=()):
    """The order in which a run does ten shards."""
    order = []

    def work(shard):
        order.append(shard)
        done.add(shard)
        return Timings()

    with Claims(root) as ours, Claims(root) as theirs:
        for shard in claimed:
            theirs.take(f"masks-{shard:05d}")
        values = share(
            *(work, range(10)),
            stage="masks",
            is_done=done.__contains__,
            claims=ours,
            run=run_here,
            rank=rank,
            world=world,
        )
        seen = []
        for shard, _ in values:
            seen.append(shard)
            if len(seen) + len(claimed) == 10:  # only then the other one ends its own
                for other in claimed:
                    done.add(other)
                    theirs.release(f"masks-{other:05d}")
    assert sorted(seen) == list(range(10))
    return order


@pytest.mark.parametrize("rank", range(3))
def test_a_run_does_its_own_shards_first_and_then_what_is_left(tmp_path, rank):
    order = shared(tmp_path, rank, 3, set())
    own = list(range(rank, 10, 3))
    assert order[: len(own)] == own
    assert sorted(order) == list(range(10))


def test_what_others_are_at_is_waited_for_and_not_done(tmp_path):
    assert shared(tmp_path, 0, 1, {4}, claimed=(2, 7)) == [0, 1, 3, 5, 6, 8, 9]
