"""Pickles of plain values: read without running anything that a file names.

A pickle is a program. It may call whatever it can import, so `pickle.load` of a file from elsewhere
is to run its author's code. Here an import is answered with an object of ours, or not at all: of
NumPy's arrays and scalars only the description is read, and the values are made of it by
`numpy.frombuffer`. Nothing of NumPy is imported or called by the file, hence it does not matter
which version of it wrote the file either.

The names and arguments are those of ``ndarray.__reduce__``, ``dtype.__reduce__`` and
``generic.__reduce__`` (numpy/_core/src/multiarray), of ``numpy._core.numeric._frombuffer``
(protocol 5), and of ``bytes`` under the protocols 0 to 2 (Lib/pickle.py, save_bytes).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alps.errors import ImageError
from alps.images.files.limits import read_bytes

#: Kinds and sizes of numbers that an array may hold.
NUMBER = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
#: Words of a file, which are counted before anything is made of them.
WORDS = 10**6
#: Values of a file, those that occur several times counted as often.
VALUES = 10**6
#: Which of the values that a word takes become keys of a dict.
KEYS = {"SETITEM": slice(1, None, 2), "SETITEMS": slice(1, None, 2), "DICT": slice(0, None, 2)}
#: What `pickletools` says of words that make text; the second is that of Python 2.
TEXT = (pickletools.pyunicode, pickletools.pybytes_or_str)


class _Refused(Exception):
    """The file asks for what it shall not have."""


class _Name:
    """What a name in the file stands for: it can be called, and nothing else."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused("it would change a function")


class _Dtype:
    """A type of numbers; its state brings the order of the bytes."""

    __slots__ = ("_code",)

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not NUMBER.fullmatch(code):
            raise _Refused(f"it holds an array of {_told(code)}, expected plain numbers")
        self._code = code.lstrip("<>=|")

    def __setstate__(self, state: Any) -> None:
        _version, order, *rest = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in rest[:3]):
            raise _Refused("it holds an array with fields, expected plain numbers")
        self._code = order.replace("|", "") + self._code

    def values(self, raw: object) -> np.ndarray:
        """Numbers out of their bytes."""
        if not isinstance(raw, (bytes, bytearray)):
            raise _Refused("it holds an array of objects, expected plain numbers")
        return np.frombuffer(raw, np.dtype(self._code))


class _Array:
    """An array; its state brings shape, type and bytes."""

    __slots__ = ("values",)

    def __init__(self, *_: object) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.values = dtype.values(raw).reshape(shape, order="F" if fortran else "C")


def _from_buffer(raw: object, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = dtype.values(raw).reshape(shape, order=order)
    return array


def _scalar(dtype: Any, raw: object) -> Any:
    return dtype.values(raw)[0].item()


def _refuse_call(*_: object) -> None:
    raise _Refused("it would call numpy.ndarray")


_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _refuse_call,  # an argument of _reconstruct, of which only that is used
    ("numpy", "dtype"): _Dtype,
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",  # Python 2's name, which the protocols 0 to 2 use
    **{
        (f"numpy.{core}.{module}", name): call
        for core in ("core", "_core")  # before NumPy 2, and since
        for module, name, call in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Plain(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._left = len(data)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Name(self._encode)
        if (module, name) not in _NAMES:
            raise _Refused(f"it would call {module[:80]}.{name[:80]}")
        return _Name(_NAMES[module, name])

    def _encode(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused(f"it encodes text as {_told(encoding)}")
        self._left -= len(text)
        if self._left < 0:  # a text that is encoded again and again fills the memory
            raise _Refused("it encodes more text than it has")
        return text.encode("latin1")


def load_plain(path: Path) -> Any:
    """Read a pickle of dicts, lists, tuples, text, numbers, bytes and NumPy's arrays of numbers.

    NumPy's scalars come as Python's numbers.

    Raises:
        ImageError: the file cannot be read, or asks for anything else.
    """
    try:
        data = read_bytes(path)
        _check_words(data)
        return _finish(_Plain(data).load(), {})[0]
    except _Refused as error:
        raise ImageError(
            f"{path} is refused: {error}; such a file could run any program, and what is expected "
            "here are lists, numbers and text; get it from its authors"
        ) from error
    except Exception as error:  # a damaged pickle raises anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"cannot read {path}: {reason}") from error


def _check_words(data: bytes) -> None:
    """Refuse what would fill the memory or the hours of the C code that loads it.

    That code cannot be stopped, so the words are read first. A word of one byte can make a list;
    a few bytes can number a value in billions, and a place is kept for each of these; and keys are
    hashed, where numbers can be chosen to be all alike, and tuples in tuples to take years. The
    stack is followed as the words describe it: of a value is known whether it is text, no more.
    """
    stack: list[bool] = []
    marks: list[int] = []  # how high the stack was
    memo: dict[Any, bool] = {}
    for n, (op, argument, _) in enumerate(pickletools.genops(data), 1):
        if n > WORDS:
            raise _Refused(f"it has more than {WORDS} words")
        if op.name in ("EMPTY_SET", "ADDITEMS", "FROZENSET"):
            raise _Refused("it holds a set")
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if argument is None else argument
            if place > len(data):
                raise _Refused(f"it numbers a value {place} in {len(data)} bytes")
            memo[place] = bool(stack) and stack[-1]
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(argument, False))  # one that is not there stops the reader
        elif op.name == "MARK":
            marks.append(len(stack))
        elif op.name == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        else:
            start = len(stack) - len(op.stack_before)
            if pickletools.markobject in op.stack_before:
                below = op.stack_before.index(pickletools.markobject)
                start = marks.pop() - below if marks else -1
            if start < (marks[-1] if marks else 0):
                raise _Refused(f"{op.name} takes more values than there are")
            taken = stack[start:]
            if op.name in KEYS and not all(taken[KEYS[op.name]]):
                raise _Refused("it has a key that is no text")
            del stack[start:]
            if op.name == "DUP":
                stack += taken * 2
            else:
                stack += [made in TEXT for made in op.stack_after]


def _told(value: object) -> str:
    """A value for a message: of text the beginning, else its kind, for lists may have no end."""
    return repr(value[:20]) if isinstance(value, str) else f"a {type(value).__name__}"


def _finish(value: Any, done: dict[int, tuple[Any, int]]) -> tuple[Any, int]:
    """Arrays in place of their descriptions, and how many values there are.

    What occurs twice is done once, and counted twice.
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
        raise _Refused(f"it holds a {type(value).__name__.lstrip('_').lower()}")
    if n > VALUES:
        raise _Refused(f"it holds more than {VALUES} values")
    done[id(value)] = result, n
    return result, n
