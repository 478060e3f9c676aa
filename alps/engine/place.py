"""Which of several runs this one is, where a launcher has started the same command many times."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Environment variables without which there is no launcher: most runs need not import Lightning.
LAUNCHERS = ("SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True, slots=True)
class Place:
    """A run among those of its launcher."""

    rank: int = 0  # of all
    world: int = 1  # how many there are
    local_rank: int = 0  # of those on this machine


def find_place() -> Place:
    """What SLURM, torchrun, LSF or MPI say; rank 0 of 1 where none of them has started this run."""
    if not any(name in os.environ for name in LAUNCHERS):
        return Place()
    from lightning.fabric.plugins.environments.lsf import LSFEnvironment
    from lightning.fabric.plugins.environments.mpi import MPIEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    # torchrun first: SLURM may have started it, once per machine.
    for kind in (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment):
        if kind.detect():
            found = kind()
            return Place(found.global_rank(), found.world_size(), found.local_rank())
    return Place()
