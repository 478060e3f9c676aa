"""Each process chooses its device, but all of them the same kind."""

import pickle

import pytest
import torch

from alps.errors import ConfigError
from alps.pretrained.device import PROCESSES_PER_GPU, DeviceSetting


@pytest.fixture
def gpu(monkeypatch):
    """Set whether this process has a GPU."""

    def set_gpu(available):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)

    return set_gpu


def test_auto_is_the_device_of_the_process_that_computes(gpu):
    gpu(False)
    pickled = pickle.dumps(DeviceSetting("auto", key="sam.device"))
    assert pickle.loads(pickled).choose().type == "cpu"
    gpu(True)
    assert pickle.loads(pickled).choose().type == "cuda"


def test_a_plan_for_gpus_is_refused_where_there_is_none(gpu):
    gpu(True)
    auto, named = (DeviceSetting(name, key="sam.device") for name in ("auto", "cuda:1"))
    assert (auto.kind, named.kind) == ("cuda", "cuda")
    gpu(False)
    for setting in (auto, named):
        with pytest.raises(
            ConfigError, match=r"no GPU in the process on .*; set sam.device=cpu, or"
        ):
            pickle.loads(pickle.dumps(setting)).choose()


def test_a_plan_for_cpus_is_refused_where_auto_is_a_gpu(gpu):
    gpu(False)
    auto, cpu = (DeviceSetting(name, key="features.device") for name in ("auto", "cpu"))
    assert (auto.kind, cpu.kind) == ("cpu", "cpu")
    gpu(True)
    with pytest.raises(
        ConfigError, match=r"recorded cpu; set features.device=cuda to use the GPUs"
    ):
        pickle.loads(pickle.dumps(auto)).choose()
    assert cpu.choose().type == "cpu"


def test_a_driver_without_gpu_may_plan_for_gpus(gpu):
    gpu(False)
    setting = DeviceSetting("cuda", key="sam.device")
    assert setting.kind == "cuda"
    gpu(True)
    assert setting.choose() == torch.device("cuda")


@pytest.mark.parametrize(("processes", "shares"), [("1", []), ("3", [(0.3, None)])])
def test_processes_on_a_gpu_divide_its_memory(cuda, monkeypatch, processes, shares):
    limited = []
    monkeypatch.setenv(PROCESSES_PER_GPU, processes)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *limit: limited.append(limit)
    )
    DeviceSetting("auto", key="sam.device").choose()
    DeviceSetting("cpu", key="sam.device").choose()
    # torch refuses a device without an index here; None is the current device.
    assert limited == [(pytest.approx(share), device) for share, device in shares]


@pytest.mark.parametrize("processes", ["0", "-1", "two", ""])
def test_an_invalid_number_of_processes_is_refused(monkeypatch, processes):
    monkeypatch.setenv(PROCESSES_PER_GPU, processes)
    with pytest.raises(ConfigError, match=f"{PROCESSES_PER_GPU}={processes}: expected an integer"):
        DeviceSetting("cpu", key="sam.device").choose()
