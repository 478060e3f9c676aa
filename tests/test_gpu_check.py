"""`make gpu-check`: its parts are documented, and run in processes that end in time."""

import re
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import isolated
from benchmarks.gpu.findings import Check, Outcome, Skipped, Status, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.parts import PARTS


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The variables that the program sets for its parts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ALPS_CACHE", "")


def test_the_documentation_lists_the_parts():
    assert program.__doc__
    listed = re.search(r"The parts are (.*?)\.", program.__doc__, re.DOTALL)
    assert listed
    assert re.split(r",\s+|\s+and\s+", listed.group(1)) == [*PARTS]
    modules = {part.module for part in PARTS.values()}
    assert all(Path(program.__file__).with_name(f"{module}.py").is_file() for module in modules)


def test_all_parts_take_eight_minutes_at_most():
    assert sum(part.limit for part in PARTS.values()) <= 8 * 60


def test_a_part_runs_and_is_reported(tmp_path, capsys):
    page = tmp_path / "gpu.md"
    arguments = ["--device", "cpu", "--only", "environment", "--out", str(page)]
    assert program.main(arguments) == 0
    assert re.search(r"^PASS environment: 2 checks", capsys.readouterr().out, re.MULTILINE)
    text = page.read_text()
    assert re.search(r"^\| torch \| \d", text, re.MULTILINE)
    assert "Not checked: no GPU is used" in text


def test_a_part_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "CPU_LIMIT", 0)
    inputs = Inputs("cpu", tmp_path, tmp_path, small=True)
    outcome = isolated.run_part(PARTS["environment"], inputs)
    assert (outcome.status, outcome.reason) == (Status.FAIL, "did not end within 0 s")


def test_one_failed_check_fails_a_part(monkeypatch):
    table, holds, fails = Table("", (), ()), Check("1 = 1", True), Check("1 = 2", False)
    assert Outcome([table, holds, Skipped("no driver")]).status is Status.PASS
    assert Outcome([table, Skipped("no driver")]).status is Status.NOT_APPLICABLE
    failed = Outcome([holds, fails])
    assert (failed.status, failed.reason) == (Status.FAIL, "1 = 2")
    monkeypatch.setattr(program, "run_part", lambda part, inputs: failed)
    assert program.main(["--device", "cpu", "--only", "kmeans"]) == 1
