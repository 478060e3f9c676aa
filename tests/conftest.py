import faiss
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_worker():
    """pytest-xdist has a process per core; more threads than cores only wait for each other."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
