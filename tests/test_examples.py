"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "alps").rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_there_are_some():
    assert "alps.structures.palette" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, capsys):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0, capsys.readouterr().out
