"""faiss on a GPU, as far as can be seen without one: what it is asked, and what is recorded."""

from types import SimpleNamespace

import numpy as np
import pytest

from alps.assign import search as module
from alps.assign.cluster import Cluster
from alps.assign.kmeans import fit_kmeans, nearest
from alps.assign.rows import Rows
from alps.assign.search import on_gpu, search


@pytest.fixture
def gpu(monkeypatch):
    """A faiss that sees a GPU; what it was asked is on it."""
    fake = SimpleNamespace(made=0, asked=[], scratch=[])

    def resources():
        fake.made += 1
        return SimpleNamespace(setTempMemory=fake.scratch.append)

    def knn_gpu(res, xq, xb, k):
        assert (xq.dtype, xb.dtype, k) == (np.float32, np.float32, 1)
        assert xq.flags.c_contiguous
        fake.asked.append(res)
        apart = ((xq[:, None].astype(np.float64) - xb) ** 2).sum(axis=2)
        index = apart.argmin(axis=1)[:, None]
        return np.take_along_axis(apart, index, 1).astype(np.float32), index

    fake.get_num_gpus = lambda: 1
    fake.StandardGpuResources = resources
    fake.knn_gpu = knn_gpu
    module._resources.cache_clear()
    monkeypatch.setattr(module, "faiss", fake)
    yield fake
    module._resources.cache_clear()


def points(n=500, c=6):
    return np.random.default_rng(0).standard_normal((n, c)).astype(np.float32)


def test_this_build_sees_no_gpu_and_says_nothing():
    assert on_gpu() is False
    assert "faiss.device" not in Cluster(k=2).identity


def test_a_gpu_is_used_for_every_search_with_one_set_of_resources(gpu):
    x = points()
    clusters = fit_kmeans(Rows([x]), 5, niter=4, batch_size=128, seed=0)
    assert clusters.counts.sum() == len(x)
    assert len(gpu.asked) > 4
    assert (len({id(resources) for resources in gpu.asked}), gpu.made) == (1, 1)
    assert gpu.scratch == [module.TEMP_MEMORY]


def test_a_gpu_gives_the_same_interface(gpu, monkeypatch):
    x = points()
    index, squared = nearest(x, x[:7])
    assert index[:7].tolist() == [*range(7)]
    monkeypatch.undo()
    np.testing.assert_array_equal(search(x, x[:7]), index)
    np.testing.assert_array_equal(nearest(x, x[:7])[1], squared)


def test_a_store_knows_that_a_gpu_compared(gpu):
    """So that one begun on a CPU is not gone on with on a GPU unasked, as with SAM's device."""
    assert Cluster(k=2).identity["faiss.device"] == "cuda"
