"""How much memory torch is asked for."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor made within, views not counted."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return result


class Peak(TorchDispatchMode):
    """Bytes of the tensors made within that exist at the same time, at most; views share theirs."""

    def __init__(self):
        super().__init__()
        self.bytes = self._now = 0
        self._made = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and (key := id_of(made)) not in self._made | given:
                self._made.add(key)
                self._now += made.untyped_storage().nbytes()
                weakref.finalize(
                    made.untyped_storage(), self._free, key, made.untyped_storage().nbytes()
                )
                self.bytes = max(self.bytes, self._now)
        return result

    def _free(self, key, size):
        self._made.discard(key)
        self._now -= size


def id_of(tensor):
    return tensor.untyped_storage()._cdata
