"""Rank of this run when a launcher has started the same command several times."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Environment variables of each launcher: rank, number of processes and rank on the machine.
#: Lightning also reads them, but its import takes seconds, and it rejects ``srun -n 8`` without
#: ``--ntasks-per-node``.
LAUNCHERS = (
    # torchrun's are read first, because SLURM may have started torchrun once per machine.
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    # Of the SLURM step, not of the job: a batch script or a shell runs a command only once.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
)


@dataclass(frozen=True, slots=True)
class LauncherRank:
    """Rank of this run among the runs that its launcher has started."""

    rank: int = 0  # among all runs
    world_size: int = 1  # number of runs
    local_rank: int = 0  # among the runs on this machine


def read_rank() -> LauncherRank:
    """Read the rank that torchrun, SLURM, MPI or LSF has set; rank 0 of 1 without a launcher."""
    for names in LAUNCHERS:
        rank, world_size, local_rank = (os.environ.get(name) for name in names)
        if rank and world_size:
            return LauncherRank(int(rank), int(world_size), int(local_rank or 0))
    return LauncherRank()
