"""A pretend CUDA device for machines without one: the data of its tensors lie on the CPU.

Code runs on it as on a GPU, and gives what it gives on the CPU. An operation on tensors of both
devices raises, `Tensor.numpy` of a tensor on the device raises, and every kernel and every wait of
the CPU for the device is counted.

Kernels are the dispatched operators on tensors of the device that are not views. On a real GPU a
few of them launch more than one kernel (`LAUNCHES`), and a GPU may fuse what a CPU splits.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Thread
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
#: Free and total memory of the device, in bytes.
MEMORY = (72 << 30, 80 << 30)
#: Results of functions of torch.cuda, whatever their arguments.
CUDA_STATE = {
    "is_available": True,
    "device_count": 1,
    "current_device": 0,
    "is_bf16_supported": True,
    "mem_get_info": MEMORY,
    "synchronize": None,
    "empty_cache": None,
    "max_memory_allocated": 0,
}
#: Kernels that one operator launches; all others launch one.
LAUNCHES = {"nonzero": 3, "index": 2, "convolution": 2}
#: Operators that return a number to the CPU, which waits for it.
SCALARS = frozenset({"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"})
#: Operators whose result's shape depends on the data, so that the CPU waits for it.
SHAPES = frozenset(
    {"nonzero", "nonzero_numpy", "masked_select", "unique", "_unique2", "unique_dim", "bincount"}
)
#: Operators that allocate without a kernel.
ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})
#: Operators that copy from one device to the other, accept indices on the CPU, or read no data.
ACROSS = frozenset(
    {"copy_", "_copy_from", "to", "_to_copy", "index", "index_put", "index_put_"}
    | {"_index_put_impl_", "_has_compatible_shallow_copy_type", "is_same_size", "is_set_to"}
)


class MixedDevices(RuntimeError):
    """An operation on a tensor of the CPU and a tensor of the device."""


class CudaTensor(torch.Tensor):
    """A tensor that says it is on the device; ``data_on_cpu`` is its content.

    Args:
        data: its content.
        cpp_device: device that it names to the C++ code of torch.
    """

    data_on_cpu: torch.Tensor
    device = CUDA
    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, data: torch.Tensor, cpp_device: torch.device) -> CudaTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            data.size(),
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=cpp_device,
        )
        tensor.data_on_cpu = data
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise RuntimeError(f"{operator}: a tensor of the pretend device outside of its context")

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        kwargs.pop("copy", None)
        device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None and device.type == "cpu":
            return torch.ops.aten._to_copy(
                self, dtype=dtype, device=CPU, memory_format=memory_format
            )
        return super().to(dtype=dtype or self.dtype, memory_format=memory_format)

    def cpu(self) -> torch.Tensor:
        return self.to(CPU)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        raise TypeError(
            f"can't convert {CUDA} device type tensor to numpy; copy it to the CPU first"
        )

    def __repr__(self) -> str:
        return f"CudaTensor({[*self.shape]}, {self.dtype})"


class NamedDevices(FakeTensorMode):
    """Mode in which naming a CUDA device does not initialise CUDA; `Operators` runs the rest."""

    avoid_device_init = True


class Operators(TorchDispatchMode):
    """Passes each operator to a function.

    Args:
        run: function of an operator, its arguments and keyword arguments.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return self.run(operator, args, kwargs or {})


class PretendCuda:
    """Context in which a CUDA device seems to exist.

    It changes nothing outside: every patch of torch is undone on exit, and so modules and tensors
    on the device can only be used inside.

    Args:
        backward: whether gradients are computed. If so, tensors on the device call themselves CPU
            tensors in C++, where the autograd engine would ask the driver; Python sees the device.

    Attributes:
        kernels: number of kernels, by stage and operator.
        waits: number of times that the CPU waits for the device, by stage and operator.
    """

    def __init__(self, *, backward: bool = False) -> None:
        self._cpp_device = CPU if backward else CUDA
        self.kernels: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self._stages = [""]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._modes())
            for name, value in CUDA_STATE.items():
                stack.enter_context(patch.object(torch.cuda, name, _constant(value)))
            # A mode applies to one thread.
            stack.enter_context(patch.object(Thread, "run", self._within(self._modes, Thread.run)))
            # Under a FakeTensorMode, torch.load makes empty tensors.
            load = self._within(_disable_current_modes, torch.load)
            stack.enter_context(patch.object(torch, "load", load))
            # `Module.to` replaces parameters, because their data cannot move between devices.
            overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
            stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
            torch.__future__.set_overwrite_module_params_on_conversion(True)
            # Operators of cuDNN do not exist on the CPU.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count as ``name`` within the context; the innermost name counts."""
        self._stages.append(name)
        try:
            yield
        finally:
            self._stages.pop()

    @contextmanager
    def stages(self, functions: Mapping[str, Sequence[tuple[Any, str]]]) -> Iterator[None]:
        """Count functions as stages: pairs of a class or module and a name in it, by stage."""
        with ExitStack() as stack:
            for stage, pairs in functions.items():
                for owner, name in pairs:
                    stack.enter_context(patch.object(owner, name, self._staged(owner, name, stage)))
            yield

    def table(self) -> str:
        """Return kernels and waits by stage, with the most frequent operators, as text."""
        lines = [f"{'stage':20} {'kernels':>8} {'waits':>6}  most frequent"]
        kernels, waits = by_stage(self.kernels), by_stage(self.waits)
        for stage in sorted(kernels | waits, key=lambda s: -kernels[s]):
            both = Counter({op: n for (s, op), n in self.kernels.items() if s == stage})
            often = " ".join(f"{op}:{n}" for op, n in both.most_common(6))
            lines.append(f"{stage or '-':20} {kernels[stage]:8} {waits[stage]:6}  {often}")
        lines.append(f"{'all':20} {self.kernels.total():8} {self.waits.total():6}")
        return "\n".join(lines)

    def reset(self) -> None:
        """Begin counting again."""
        self.kernels.clear()
        self.waits.clear()

    def _staged(self, owner: Any, name: str, stage: str) -> Any:
        raw = vars(owner)[name]
        function = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        return type(raw)(counted) if isinstance(raw, classmethod | staticmethod) else counted

    @contextmanager
    def _modes(self) -> Iterator[None]:
        """Run the operators of this thread here."""
        with NamedDevices(allow_non_fake_inputs=True), Operators(self._run):
            yield

    @staticmethod
    def _within(
        context: Callable[[], AbstractContextManager[Any]], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with context():
                return function(*args, **kwargs)

        return run

    def _run(self, operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator on the CPU, and count it if it would run on the device."""
        name = operator.overloadpacket.__name__
        if name in ("pin_memory", "_pin_memory"):  # needs the driver
            operator = torch.ops.aten.clone.default
        kwargs = {k: v for k, v in kwargs.items() if k not in ("pin_memory", "non_blocking")}
        leaves = tree_leaves((args, kwargs))
        inputs = [leaf for leaf in leaves if isinstance(leaf, CudaTensor)]
        target = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        if inputs and name not in ACROSS:
            _refuse_mixing(name, leaves)
        on_device = bool(inputs) if target is None else target.type == "cuda"
        if name in ("copy_", "_copy_from"):
            on_device = isinstance(args[0 if name == "copy_" else 1], CudaTensor)
        with unset_fake_temporarily():
            result = operator(*tree_map(_to_cpu, args), **tree_map(_to_cpu, kwargs))
            if bool(inputs) != on_device:  # what another device gets is a copy
                result = tree_map(functools.partial(_unshare, leaves), result)
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        is_view = not operator._schema.is_mutable and _share_memory(tensors, inputs)
        if inputs or on_device:
            if _is_read_by_cpu(name, args) or (tensors and not on_device):
                self.waits[self._stages[-1], name] += 1
            if tensors and not is_view and name not in ALLOCATIONS:
                self.kernels[self._stages[-1], name] += LAUNCHES.get(name, 1)
        if (
            operator._schema.is_mutable
            and (written := _written(operator, args, kwargs)) is not None
        ):
            return written
        if not on_device:
            return result
        # In inference mode too, a view of an ordinary tensor is an ordinary tensor.
        is_ordinary = is_view and not inputs[0].is_inference()
        with torch.inference_mode(torch.is_inference_mode_enabled() and not is_ordinary):
            return tree_map(self._to_device, result)

    def _to_device(self, leaf: Any) -> Any:
        return CudaTensor(leaf, self._cpp_device) if isinstance(leaf, torch.Tensor) else leaf


def by_stage(counts: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Sum counts of operators over each stage."""
    total: Counter[str] = Counter()
    for (stage, _), n in counts.items():
        total[stage] += n
    return total


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _refuse_mixing(name: str, leaves: list[Any]) -> None:
    """Raise `MixedDevices` for a CPU tensor among those of the device, unless it is a number."""
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, CudaTensor) and leaf.dim():
            raise MixedDevices(
                f"{name} got a tensor {[*leaf.shape]} on the CPU beside one on {CUDA}"
            )


def _to_cpu(leaf: Any) -> Any:
    if isinstance(leaf, CudaTensor):
        return leaf.data_on_cpu
    return CPU if isinstance(leaf, torch.device) else leaf


def _unshare(leaves: list[Any], leaf: Any) -> Any:
    """Copy a result that shares its memory with an input."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    inputs = [_to_cpu(x) for x in leaves if isinstance(x, torch.Tensor)]
    pointers = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    return leaf.clone() if leaf.untyped_storage().data_ptr() in pointers else leaf


def _written(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the tensor that an operator has written to and returns, such as that of ``add_``."""
    arguments = operator._schema.arguments
    written = [
        args[i] if i < len(args) else kwargs.get(argument.name)
        for i, argument in enumerate(arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    returns = operator._schema.returns
    if len(written) == len(returns) == 1 and isinstance(written[0], torch.Tensor):
        return written[0]
    return None


def _share_memory(results: Sequence[torch.Tensor], inputs: Sequence[CudaTensor]) -> bool:
    """Return whether all results, of which there is at least one, are views of inputs."""
    stored = {tensor.data_on_cpu.untyped_storage().data_ptr() for tensor in inputs}
    return bool(results) and all(t.untyped_storage().data_ptr() in stored for t in results)


def _is_read_by_cpu(name: str, args: Sequence[Any]) -> bool:
    """Return whether the CPU needs the values of a tensor to continue."""
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return any(
            isinstance(index, CudaTensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
    return name in SCALARS or name in SHAPES
