"""The pretend CUDA device refuses what a GPU refuses, counts, and leaves no trace."""

from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn

from tests.pretend_cuda import CUDA_STATE, MixedDevices, PretendCuda


def test_results_are_those_of_the_cpu(cuda):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    on_device = torch.as_tensor(x, device="cuda")
    assert on_device.is_cuda
    assert on_device.device == torch.ones(2, device="cuda:0").device
    result = (on_device @ on_device.T)[1:].relu()
    assert result.device.type == "cuda"
    np.testing.assert_array_equal(result.cpu().numpy(), (x @ x.T)[1:])
    assert result.tolist() == (x @ x.T)[1:].tolist()


def test_a_copy_does_not_share_memory_and_a_view_does(cuda):
    x = torch.zeros(4)
    with torch.inference_mode():
        y = x.to("cuda")
        y[1:3] += 1
        back = y.cpu()
        y.add_(1)
    assert (x.tolist(), back.tolist(), y.tolist()) == ([0] * 4, [0, 1, 1, 0], [1, 2, 2, 1])


def test_what_a_gpu_refuses_raises(cuda):
    x = torch.ones(3, device="cuda")
    with pytest.raises(MixedDevices, match=r"add got a tensor \[3\] on the CPU beside one on cuda"):
        _ = x + torch.ones(3)
    _ = x + torch.ones(())  # a number may come from the CPU
    for convert in (lambda t: t.numpy(), np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            convert(x)


def test_kernels_are_operators_that_are_not_views(cuda):
    x = torch.empty(3, 4, device="cuda")
    with cuda.stage("first"):
        _ = x.view(4, 3).T[1:], x.detach(), x.reshape(12)
    assert not cuda.kernels
    with cuda.stage("first"):
        _ = (x + 1).T.contiguous().relu_()
        with cuda.stage("second"):
            _ = torch.zeros(3, device="cuda") + 1
    assert dict(cuda.kernels) == {
        ("first", "add"): 1,
        ("first", "clone"): 1,
        ("first", "relu_"): 1,
        ("second", "zeros"): 1,
        ("second", "add"): 1,
    }
    assert not cuda.waits
    assert "second                      2      0" in cuda.table()


def test_waits_are_where_the_cpu_needs_values(cuda):
    x = torch.arange(4, device="cuda")
    for wait in (
        lambda: x.sum().item(),
        lambda: bool(x.any()),
        lambda: x.nonzero(),
        lambda: x[x > 2],
        lambda: x.cpu(),
        lambda: x.to("cpu", torch.float32),
        lambda: x.tolist(),
    ):
        cuda.reset()
        wait()
        assert cuda.waits.total() == 1
    cuda.reset()
    _ = x[x], torch.where(x > 2, x, 0), x.to("cuda"), torch.ones(2).to("cuda")
    assert not cuda.waits


def test_methods_count_as_stages(cuda):
    layer = nn.Linear(2, 2).requires_grad_(False).to("cuda")
    with cuda.stages({"linear": [(nn.Linear, "forward")]}):
        layer(torch.ones(2, 2, device="cuda"))
    assert {stage for stage, _ in cuda.kernels} == {"", "linear"}


def test_threads_see_the_device(cuda):
    with ThreadPoolExecutor(2) as pool:
        sums = pool.map(lambda n: torch.tensor([n, n], device="cuda").sum().item(), range(3))
        assert [*sums] == [0, 2, 4]


def test_gradients_are_those_of_the_cpu():
    def step(device):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).to(device)
        optimizer = torch.optim.AdamW(net.parameters(), fused=True)
        net(torch.randn(2, 3, 8, 8).to(device)).square().sum().backward()
        optimizer.step()
        return {name: value.cpu().tolist() for name, value in net.state_dict().items()}

    expected = step("cpu")
    with PretendCuda(backward=True):
        assert step("cuda") == expected


def test_nothing_is_left_behind():
    def patched():
        return (
            [getattr(torch.cuda, name) for name in CUDA_STATE],
            [torch.backends.cudnn.enabled, torch.load, Thread.run],
            torch.__future__.get_overwrite_module_params_on_conversion(),
        )

    before = patched()
    with pytest.raises(ZeroDivisionError), PretendCuda():
        assert patched() != before
        _ = 1 / 0
    assert patched() == before
    x = torch.ones(2, requires_grad=True)
    (3 * x).sum().backward()
    assert type(x.grad) is torch.Tensor
