"""Which of several runs this one is, where a launcher has started the same command many times."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: What launchers call rank, number of processes and rank on the machine. Lightning reads the same,
#: but takes seconds to import and refuses ``srun -n 8`` without ``--ntasks-per-node``.
LAUNCHERS = (
    # torchrun first: SLURM may have started it, once per machine.
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    # Of the step, not of the job: in a batch script or a shell a command runs but once.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A run among those of its launcher."""

    rank: int = 0  # of all
    world: int = 1  # how many there are
    local_rank: int = 0  # of those on this machine


def find_place() -> Place:
    """What torchrun, SLURM, MPI or LSF say; rank 0 of 1 where none of them started this run."""
    for names in LAUNCHERS:
        rank, world, local_rank = (os.environ.get(name) for name in names)
        if rank and world:
            return Place(int(rank), int(world), int(local_rank or 0))
    return Place()
