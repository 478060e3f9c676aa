"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import alps
from alps.assign.baselines import Binary
from alps.images import FolderPair
from alps.labelling.recipes import Recipe
from alps.masks import AutoMasks
from alps.masks.auto import SAM_SETTINGS
from tests.factories import create_folder_pair
from tests.fakes import ColorSegmenter

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "alps").rglob("*.py"))
    if ">>> " in path.read_text()
]
#: The modules whose examples open the store data/town_pl.
WITH_STORE = ["alps.store.label_store"]


def run_examples(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    return failed


def test_there_are_some():
    assert {"alps.structures.palette", *WITH_STORE} <= {*MODULES}


@pytest.mark.parametrize("name", sorted({*MODULES} - {*WITH_STORE}))
def test_examples_give_what_they_say(name, capsys):
    assert run_examples(name) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", WITH_STORE)
def test_examples_with_a_store_give_what_they_say(name, capsys, tmp_path, monkeypatch):
    create_folder_pair(tmp_path / "pair", n=2, size=(32, 48))
    monkeypatch.chdir(tmp_path)
    options = {**SAM_SETTINGS, "points_per_side": 3, "stability_score_thresh": 0.5}
    masks = AutoMasks(segmenter=ColorSegmenter(), **options)
    alps.label(FolderPair(root="pair", name="town"), recipe=Recipe(masks, Binary()))
    assert run_examples(name) == 0, capsys.readouterr().out
