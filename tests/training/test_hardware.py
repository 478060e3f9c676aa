"""What training chooses by the hardware, on a pretended GPU."""

import multiprocessing
import os

import cv2
import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy

from alps.errors import ConfigError
from alps.prediction.device import choose_accelerator, choose_precision
from alps.training import data as loaders
from alps.training.runs import _tf32
from tests.programs import finetune
from tests.training.tiny_runs import tiny_data, tiny_task, tiny_trainer


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of the Ampere generation, which computes nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


@pytest.fixture
def on_gpu(gpu, tmp_path):
    """A trainer that would train on the GPU."""
    trainer = tiny_trainer(tmp_path)
    trainer.strategy.connect(tiny_task())
    trainer.strategy._root_device = torch.device("cuda", 0)
    assert isinstance(trainer.strategy, SingleDeviceStrategy)
    return trainer


def test_a_gpu_trains_in_bf16_if_it_can_and_a_cpu_in_float32(gpu, monkeypatch):
    assert choose_precision("auto", choose_accelerator("auto")) == "bf16-mixed"
    assert choose_precision("auto", "gpu") == "bf16-mixed"
    assert choose_precision("16-mixed", "gpu") == "16-mixed"
    assert choose_precision("auto", "cpu") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_precision("auto", "gpu") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("auto", choose_accelerator("auto")) == "32-true"
    with pytest.raises(ConfigError, match="finds no GPU"):
        choose_accelerator("gpu")


def test_the_precision_is_told_and_saved(train, pair, tmp_path):
    status, out, err = train(
        *finetune(pair, "init=null", "trainer.max_steps=1", "logger=none", "run=x")
    )
    assert status == 0, err
    assert out.splitlines()[1] == "training on cpu, precision 32-true"
    assert "  precision: 32-true\n" in (tmp_path / "x/config.yaml").read_text()


def test_tf32_is_for_the_run_only(gpu, monkeypatch):
    before = torch.get_float32_matmul_precision()
    cuda = torch.device("cuda", 0)
    with _tf32(cuda):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
    with _tf32(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with _tf32(cuda):
        assert torch.get_float32_matmul_precision() == before


def test_loaders_share_the_cores_of_the_process(on_gpu, monkeypatch):
    monkeypatch.setattr(loaders.sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(12), raising=False)
    assert loaders.count_workers(on_gpu, None) == 12
    assert loaders.count_workers(on_gpu, 3) == 3
    monkeypatch.setattr(type(on_gpu), "num_devices", 8)
    assert loaders.count_workers(on_gpu, None) == 1
    on_gpu.strategy.cluster_environment = SLURMEnvironment()  # whose tasks have cores of their own
    assert loaders.count_workers(on_gpu, None) == 12
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(128))
    assert loaders.count_workers(on_gpu, None) == loaders.MAX_WORKERS
    on_gpu.strategy._root_device = torch.device("cpu")
    assert loaders.count_workers(on_gpu, None) == 0


def test_loaders_of_a_gpu_pin_memory_and_keep_the_processes_of_validations(on_gpu, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(2), raising=False)
    data = tiny_data()
    data.num_workers, data.trainer = None, on_gpu
    learning, scoring = data.train_dataloader(), data.val_dataloader()
    assert (learning.pin_memory, scoring.pin_memory) == (True, True)
    assert scoring.persistent_workers
    on_gpu.strategy._root_device = torch.device("cpu")
    assert not data.train_dataloader().pin_memory
    assert data.val_dataloader().num_workers == 0


def test_a_batch_is_moved_without_waiting():
    """And in a byte per target, where the loss needs eight."""
    data = tiny_data()
    data.trainer = tiny_trainer(None)
    batch = next(iter(data.train_dataloader()))
    assert (batch.image.dtype, batch.target.dtype) == (torch.uint8, torch.uint8)
    moves = []
    to = torch.Tensor.to

    def record(tensor, device, **options):
        moves.append(options)
        return to(tensor, device, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", record)
        moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.image.is_meta
    assert moved.image_ids == batch.image_ids
    assert moves == [{"non_blocking": True}] * 2


def threads(results):
    loaders.start_worker(0)
    results.put(cv2.getNumThreads())


def test_a_loader_process_has_one_thread_of_opencv():
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=threads, args=(results,), daemon=True)
    process.start()
    assert results.get(timeout=60) <= 1
    process.terminate()
    process.join(30)
