"""What benchmarks.faults counts as lost; the faults themselves: tests of engine and verify."""

import pytest

from benchmarks.disturbed import contents, marks
from benchmarks.faults import FAULTS, Tally, Trials, table


@pytest.fixture
def trials(tmp_path):
    return Trials(tmp_path, {"masks/00000.parquet": b"sound", "store.json": b"{}"}, "0")


def write(store, files):
    for name, content in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(content)


def test_a_store_of_the_same_bytes_is_not_lost_and_is_removed(trials):
    store = trials.new()
    write(store, trials.expected)
    assert contents(store) == trials.expected
    trials.compare(store)
    assert trials.tally.lost == []
    assert not store.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"store.json": b"{ "}, "store.json"),
        ({"ann/0.png": b"one more"}, "ann/0.png"),
    ],
)
def test_another_byte_or_another_file_is_a_loss(trials, change, named):
    store = trials.new()
    write(store, {**trials.expected, **change})
    trials.compare(store)
    assert trials.tally.lost == [f"other bytes: {[named]}"]


def test_a_missing_file_is_a_loss(trials):
    store = trials.new()
    write(store, {"store.json": b"{}"})
    trials.compare(store)
    assert trials.tally.lost == ["other bytes: ['masks/00000.parquet']"]


class Ended:
    """A run that is over."""

    def __init__(self, store, status=0, output=""):
        self.store, self.wait, self.output = store, lambda: status, lambda: output


def test_a_wrong_status_a_traceback_and_a_shard_made_again_are_losses(trials):
    store = trials.new()
    write(store, trials.expected)
    trials.kept = marks(store)
    trials.ends(Ended(store), 0)
    assert trials.tally.lost == []
    trials.ends(Ended(store, 1, "error: why"), 0)
    trials.ends(Ended(store, 1, "Traceback (most"), 1)
    (store / "masks/00000.parquet").unlink()
    trials.ends(Ended(store), 0)
    assert trials.tally.lost[0] == "status 1, expected 0: error: why"
    assert "no traceback" in trials.tally.lost[1]
    assert trials.tally.lost[2].startswith("made again: [")


def test_the_table_has_a_row_for_each_fault():
    tallies = {name: Tally(tried=n, runs=3, stores=2) for name, (_, n, _) in FAULTS.items()}
    tallies["disk"].note = "tmpfs"
    tallies["disk"].lost.append("why")
    rows = list(table(tallies))
    assert len(rows) == 2 + len(FAULTS)
    assert "| disk full (tmpfs) | 5 | 1 | 3 | 2 |" in rows
    assert FAULTS["worker"][1] >= 50
