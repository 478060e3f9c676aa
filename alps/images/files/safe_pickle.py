"""Read pickles of plain values without executing code from them.

Plain values are dicts, lists, tuples, text, numbers, bytes and numeric NumPy arrays; NumPy scalars
become Python numbers.

A pickle may call any function that can be imported, so `pickle.load` on an untrusted file runs its
author's code. Here, an import resolves to a stand-in from this module or fails. For NumPy arrays
and scalars, only dtype, shape and bytes are read, and `numpy.frombuffer` builds the values. The
pickle calls no NumPy function, so the NumPy version that wrote it does not matter.

The accepted names and arguments are those that ``ndarray.__reduce__``, ``dtype.__reduce__`` and
``generic.__reduce__`` (numpy/_core/src/multiarray), ``numpy._core.numeric._frombuffer`` (protocol
5), and ``bytes`` in the protocols 0 to 2 (Lib/pickle.py, save_bytes) write.
"""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alps.errors import ImageError
from alps.images.files.limits import read_bytes

#: The standard library's unpickler written in Python. The C unpickler cannot be interrupted, cannot
#: refuse a key, and allocates memory up to the highest memo index.
_PythonUnpickler: Any = pickle._Unpickler
#: Data types that an array may have.
NUMBER = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
#: Maximum number of opcodes of a file, because an opcode of one byte may create a list.
OPCODES = 10**6
#: Maximum number of values of a file; repeated references count each time.
VALUES = 10**6


class _Refused(Exception):
    """Raised if the file requests something that is not allowed."""


class _Name:
    """Stand-in for an imported name; it can only be called."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused("it would change a function")


class _Dtype:
    """Stand-in for a NumPy dtype; its state sets the byte order."""

    __slots__ = ("_code",)

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not NUMBER.fullmatch(code):
            raise _Refused(f"it contains an array of {_describe(code)}, expected plain numbers")
        self._code = code.lstrip("<>=|")

    def __setstate__(self, state: Any) -> None:
        _version, order, *rest = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in rest[:3]):
            raise _Refused("it contains an array with fields, expected plain numbers")
        self._code = order.replace("|", "") + self._code

    def values(self, raw: object) -> np.ndarray:
        """Return the numbers that raw bytes encode."""
        if not isinstance(raw, (bytes, bytearray)):
            raise _Refused("it contains an array of objects, expected plain numbers")
        return np.frombuffer(raw, np.dtype(self._code))


class _Array:
    """Stand-in for a NumPy array; its state sets shape, dtype and bytes."""

    __slots__ = ("values",)

    def __init__(self, *_: object) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.values = dtype.values(raw).reshape(shape, order="F" if fortran else "C")


def _from_buffer(raw: object, dtype: Any, shape: Any, order: Any) -> _Array:
    """Build an array as ``numpy._core.numeric._frombuffer`` does."""
    array = _Array()
    array.values = dtype.values(raw).reshape(shape, order=order)
    return array


def _scalar(dtype: Any, raw: object) -> Any:
    """Return a NumPy scalar as a Python number."""
    return dtype.values(raw)[0].item()


def _refuse_call(*_: object) -> None:
    """Raise `_Refused` when the file calls ``numpy.ndarray``."""
    raise _Refused("it would call numpy.ndarray")


_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _refuse_call,  # only used as an argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",  # Python 2's name, used by protocols 0 to 2
    **{
        (f"numpy.{core}.{module}", name): call
        for core in ("core", "_core")  # before NumPy 2, and from NumPy 2 on
        for module, name, call in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Dict(dict[str, Any]):
    """A dict that accepts only text as keys and hashes nothing else.

    Numbers could be chosen to have the same hash, and hashing nested tuples could take years.
    """

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):
            raise _Refused("it has a key that is not text")
        super().__setitem__(key, value)


class _Plain(_PythonUnpickler):  # type: ignore[misc]  # its base has no types
    """Unpickler that resolves only the names in `_NAMES` and ``_codecs.encode``."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._left = len(data)

    def load_empty_dict(self) -> None:
        """Push an empty `_Dict`."""
        self.append(_Dict())

    def load_dict(self) -> None:
        """Push a `_Dict` of the keys and values above the last mark."""
        items, content = self.pop_mark(), _Dict()
        for key, value in zip(items[::2], items[1::2], strict=True):
            content[key] = value
        self.append(content)

    def refuse_set(self) -> None:
        """Refuse a set, whose items would be hashed."""
        raise _Refused("it contains a set")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for an imported name, or refuse it."""
        if (module, name) == ("_codecs", "encode"):
            return _Name(self._encode)
        if (module, name) not in _NAMES:
            raise _Refused(f"it would call {module[:80]}.{name[:80]}")
        return _Name(_NAMES[module, name])

    def _encode(self, text: object, encoding: object) -> bytes:
        """Encode text as ``_codecs.encode`` does, which protocols 0 to 2 use to store bytes."""
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused(f"it encodes text as {_describe(encoding)}")
        self._left -= len(text)
        if self._left < 0:  # encoding one text repeatedly could exhaust memory
            raise _Refused("it encodes more text than it has")
        return text.encode("latin1")

    dispatch = _PythonUnpickler.dispatch | {
        pickle.EMPTY_DICT[0]: load_empty_dict,
        pickle.DICT[0]: load_dict,
        pickle.EMPTY_SET[0]: refuse_set,
        pickle.FROZENSET[0]: refuse_set,
    }


def load_plain(path: Path) -> Any:
    """Read a pickle of plain values; raise `ImageError` if it contains or calls anything else."""
    try:
        data = read_bytes(path)
        if next(itertools.islice(pickletools.genops(data), OPCODES, None), None):
            raise _Refused(f"it has more than {OPCODES} opcodes")
        return _finish(_Plain(data).load(), {})[0]
    except _Refused as error:
        raise ImageError(
            f"{path} is refused: {error}; a pickle can run any program, so only lists, numbers and "
            "text are read; download the file from its authors"
        ) from error
    except Exception as error:  # the unpickler may raise anything for damaged data
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"cannot read {path}: {reason}") from error


def _describe(value: object) -> str:
    """Return the start of a text, or the type of any other value, for a message."""
    return repr(value[:20]) if isinstance(value, str) else f"a {type(value).__name__}"


def _finish(value: Any, done: dict[int, tuple[Any, int]]) -> tuple[Any, int]:
    """Replace array stand-ins by arrays, and count the values.

    A value that is referenced several times is converted once and counted each time.

    Returns:
        The converted value, and the number of values that it contains.

    Raises:
        _Refused: the value has a type that is not allowed, or too many values.
    """
    if id(value) in done:
        return done[id(value)]
    n = 1
    if isinstance(value, _Array):
        result: Any = value.values
    elif isinstance(value, (list, tuple)):
        parts = [_finish(item, done) for item in value]
        result = type(value)(part for part, _ in parts)
        n += sum(count for _, count in parts)
    elif isinstance(value, dict):
        pairs = [(_finish(key, done), _finish(item, done)) for key, item in value.items()]
        result = {key: item for (key, _), (item, _) in pairs}
        n += sum(key + item for (_, key), (_, item) in pairs)
    elif value is None or isinstance(value, (str, int, float, bytes)):
        result = value
    else:
        raise _Refused(f"it contains a {type(value).__name__.lstrip('_').lower()}")
    if n > VALUES:
        raise _Refused(f"it contains more than {VALUES} values")
    done[id(value)] = result, n
    return result, n
