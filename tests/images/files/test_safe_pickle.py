"""What plain pickles may hold, read as `pickle.load` would; and what they may not."""

import os
import pickle
import struct
import subprocess
import time

import numpy as np
import pytest

from alps.errors import ImageError
from alps.images.files.safe_pickle import load_plain

PLAIN = {
    "text": "größe",
    "numbers": [0, -1, 2**40, 2**70, 1.5, True, None],
    "nested": [({"a": b"\x00\xff"}, []), ()],
    "empty": b"",
}


def load(tmp_path, data):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    return load_plain(path)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_with_every_protocol(tmp_path, protocol):
    assert load(tmp_path, pickle.dumps(PLAIN, protocol)) == PLAIN
    twice = [PLAIN["nested"]] * 2
    assert load(tmp_path, pickle.dumps(twice, protocol)) == twice


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.array([714.0, 76.0, 726.0, 95.0]),
        np.arange(12, dtype=np.int64).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        np.arange(5, dtype=">i2"),
        np.array([[True, False]]),
        np.zeros((0, 4), np.float32),
        np.arange(9, dtype=np.uint8)[::2],
        np.array(7.5),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_are_read_with_every_protocol(tmp_path, array, protocol):
    found = load(tmp_path, pickle.dumps({"bbox": array, "again": [array]}, protocol))
    np.testing.assert_array_equal(found["bbox"], array)
    assert found["bbox"].dtype == array.dtype
    assert found["bbox"].shape == array.shape
    assert found["again"][0] is found["bbox"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "scalar", [np.int64(159), np.uint8(9), np.float32(0.5), np.float64(0.1), np.bool_(True)]
)
def test_scalars_come_as_python_s_numbers(tmp_path, scalar, protocol):
    found = load(tmp_path, pickle.dumps([scalar], protocol))[0]
    assert found == scalar
    assert type(found) is type(scalar.item())


@pytest.mark.parametrize("protocol", range(5))
def test_it_does_not_matter_which_numpy_wrote_it(tmp_path, protocol):
    """NumPy 1, which SAMRS was made with, calls its parts numpy.core, NumPy 2 numpy._core."""
    new = pickle.dumps([np.arange(3.0), np.int64(7)], protocol)
    assert b"numpy._core" in new
    if protocol == 4:  # the length of a name stands before it, and that of all before them
        new = new[:2] + new[11:]
        old = new.replace(b"\x8c\x16numpy._core", b"\x8c\x15numpy.core")
    else:
        old = new.replace(b"numpy._core", b"numpy.core")
    assert old != new
    found = load(tmp_path, old)
    np.testing.assert_array_equal(found[0], np.arange(3.0))
    assert found[1] == 7


class Evil:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", [lambda e: e, lambda e: [{"bbox": e}], lambda e: {e: 1}])
def test_a_file_that_would_write_a_file_is_refused(tmp_path, monkeypatch, protocol, place):
    monkeypatch.chdir(tmp_path)
    for function, arguments, name in (
        (os.system, ("touch harm",), f"{os.system.__module__}.system"),
        (open, ("harm", "w"), "_?io.open"),
        (eval, ("open('harm', 'w')",), "(builtins|__builtin__).eval"),
        (subprocess.Popen, (["touch", "harm"],), "(subprocess|commands).Popen"),
        (np.save, ("harm", np.zeros(1)), "numpy.save"),
    ):
        data = pickle.dumps(place(Evil(function, *arguments)), protocol)
        told = f"(it would call {name}|it has a key that is not text)"
        with pytest.raises(ImageError, match=rf"x.pkl is refused: {told}; .*lists"):
            load(tmp_path, data)
        assert not list(tmp_path.glob("harm*"))


def test_the_evil_file_is_evil(tmp_path, monkeypatch):
    """Else the test above would pass whatever is read how."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil(os.system, "touch harm")))
    assert (tmp_path / "harm").exists()


def by_hand(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


#: A key and a value, many times: the keys are numbers, and all have the same hash.
ALIKE = [
    b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N"
    for k in range(1, 1000)
]
#: A list of two lists of two lists, 60 deep.
ENDLESS = b"]q\0" + b"0](h\0h\0eq\0" * 60


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # An allowed function, given another state, other arguments, or called as it is.
        (by_hand(b"c_codecs\nencode\n", b"}U\x01aK\x01s", b"b"), "would change a function"),
        (by_hand(b"c_codecs\nencode\n", b"X\x01\x00\x00\x00a", b"U\x03hex\x86R"), "encodes text"),
        (by_hand(b"cnumpy\nndarray\n", b"K\x05\x85R"), "it would call numpy.ndarray"),
        (by_hand(b"cnumpy\nndarray\n"), "refused: it contains a name"),
        (by_hand(b"cnumpy\ndtype\n", b"U\x02f8\x85R"), "refused: it contains a dtype"),
        # What unpickles by other words than names.
        (by_hand(b"K\x01Q"), "cannot read .*persistent"),
        (by_hand(b"(cos\nsystem\no"), "it would call os.system"),
        (by_hand(b"(ios\nsystem\n"), "it would call os.system"),
        (by_hand(b"\x82\x01"), "cannot read .*extension"),
        (by_hand(b"cnumpy\nndarray\n", b")\x81"), "cannot read"),
        # Sizes out of all proportion.
        (by_hand(b"T" + struct.pack("<i", 2**31 - 1) + b"a"), "cannot read"),
        # A few bytes that would be hashed, or told, for years.
        (by_hand(b"})", b"2\x86" * 60, b"K\x01s"), "refused: it has a key that is not text"),
        (by_hand(b"})", b"\x85" * 10**6, b"K\x01s"), "it has more than 1000000 opcodes"),
        (by_hand(b")q\0", b"0h\0h\0\x86q\0" * 60, b"0}h\0Ns"), "it has a key that is not text"),
        (by_hand(b"cnumpy\ndtype\n", ENDLESS, b"\x85R"), "an array of a list"),
        (by_hand(b"c_codecs\nencode\nU\1a", ENDLESS, b"\x86R"), "encodes text as a list"),
        (by_hand(b"(", *ALIKE, b"d"), "refused: it has a key that is not text"),
        (by_hand(b"}(", *ALIKE, b"u"), "refused: it has a key that is not text"),
        (by_hand(b"}", *(pair + b"s" for pair in ALIKE)), "it has a key that is not text"),
        (by_hand(b"}U\1aq\0(0", *ALIKE, b"u"), "cannot read"),
        (by_hand(b"N\x94" * 6, b"0}U\1aq\x06h\5Ns"), "cannot read"),
        (by_hand(b"\x8f(", *ALIKE, b"\x90"), "refused: it contains a set"),
        (by_hand(b"(", *ALIKE, b"\x91"), "refused: it contains a set"),
        (by_hand(b"(", b"]" * 10**6, b"l"), "refused: it has more than 1000000 opcodes"),
        (by_hand(b"N", b"\x94" * 10**6), "refused: it has more than 1000000 opcodes"),
        (by_hand(b"]", b"q\0](h\0h\0e" * 60), "refused: it contains more than 1000000 values"),
        (
            by_hand(
                b"c_codecs\nencode\nq\0X\x64\0\0\0" + b"a" * 100 + b"X\6\0\0\0latin1\x86q\1",
                b"0(" + b"h\0h\1R" * 100,
                b"l",
            ),
            "refused: it encodes more text than it has",
        ),
        # Damage.
        (by_hand(b"h\7"), "cannot read .*7"),
        (by_hand(b"2"), "cannot read"),
        (by_hand(b"K\x01a"), "cannot read"),
        (b"", "cannot read"),
        (b"PK\x03\x04 no pickle", "cannot read"),
        (pickle.dumps(PLAIN)[:40], "cannot read"),
    ],
)
def test_hostile_and_damaged_files_are_refused(tmp_path, data, message):
    with pytest.raises(ImageError, match=message):
        load(tmp_path, data)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{}], object), "contains an array of 'O8', expected plain numbers"),
        (np.zeros(2, [("a", "f4"), ("b", "i4")]), "contains an array of 'V8'"),
        (np.array(["text"]), "contains an array of 'U4'"),
        (np.array([1j]), "contains an array of 'c16'"),
        (np.array(["2023-01-01"], "M8[D]"), "contains an array of 'M8'"),
        ({1, 2}, "it contains a set"),
        (1j, "would call builtins.complex"),
    ],
)
def test_other_values_are_refused(tmp_path, array, message):
    with pytest.raises(ImageError, match=message):
        load(tmp_path, pickle.dumps([array], 4))


def test_a_huge_memo_index_takes_no_memory(tmp_path):
    """The unpickler in C allocates its memo up to the greatest index, here 16 GB."""
    assert load(tmp_path, by_hand(b"K\x01r" + struct.pack("<I", 2**31 - 1))) == 1


def test_marks_in_a_deep_stack_are_found_at_once(tmp_path):
    """Looking down the whole stack for each would take minutes."""
    start = time.process_time()
    data = by_hand(b"(", b"N" * 100_000, b"(1" * 100_000, b"l")
    assert load(tmp_path, data) == [None] * 100_000
    assert time.process_time() - start < 10


def test_what_contains_itself_ends(tmp_path):
    own = []
    own.append(own)
    with pytest.raises(ImageError, match="recursion"):
        load(tmp_path, pickle.dumps(own))
    wide = [0]
    for _ in range(200):
        wide = [wide, wide]
    with pytest.raises(
        ImageError, match="it contains more than 1000000 values"
    ):  # told, they are 2^200
        load(tmp_path, pickle.dumps(wide))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ImageError, match=r"cannot read .*no.pkl: .*No such file"):
        load_plain(tmp_path / "no.pkl")
