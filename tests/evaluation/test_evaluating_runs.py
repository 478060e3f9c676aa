"""label.py with evaluate=true."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from alps import report
from alps.errors import StoreError
from alps.evaluation import pseudo_labels as evaluation
from alps.store.claims import Claims
from alps.store.manifest import sha256
from tests.evaluation.scenes import G, Truth, by_lot, make
from tests.factories import create_folder_pair


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["+dataset=samrs", "evaluate=true"],
            "evaluate=true compares with the ground truth, but dataset=samrs has none; "
            r"expected \+dataset=atlas2023\|coco\|fast\|folder_pair\|.*\|vectors\|video, or "
            "omit evaluate",
        ),
        (["+dataset=potsdam", "evaluate=val"], "evaluate=val: expected true or false"),
    ],
)
def test_evaluation_without_ground_truth_is_refused_before_labelling(
    arguments, message, tmp_path, label
):
    done = label(*arguments)
    assert done.returncode == 1
    assert re.fullmatch(f"error: {message}\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_label_py_evaluates_an_existing_store(tmp_path, label):
    create_folder_pair(tmp_path / "pair", n=2, size=(40, 48))
    make(tmp_path / "masks", Truth(n=2), by_lot(G))
    command = [
        *("+dataset=folder_pair", "dataset.root=pair", "dataset.name=tiny", "recipe=random"),
        *("masks=stored", "masks.store=masks", "assign.k=3", "engine.threads=1"),
    ]
    done = label(*command)
    assert done.returncode == 0, done.stderr
    store = tmp_path / "data/tiny_pl"
    labels = {p: p.read_bytes() for p in store.rglob("*.*") if p.suffix in (".png", ".parquet")}
    config = (store / "config.yaml").read_text()
    assert "evaluate" not in config

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "pair/ann_dir/val/1.png")
    done = label(*command, "evaluate=true")
    assert done.returncode == 0, done.stderr
    assert "the ground truth of img_dir/val/1.jpg is 8 x 8 pixels" in done.stderr
    for words in (
        "against 4 classes",
        "oracle",
        "mapped to classes on train and scored on val",
        "\n1 image could",
    ):
        assert words in done.stdout
    assert "data/tiny_pl/evaluation.html" in done.stdout
    assert {p: p.read_bytes() for p in labels} == labels
    assert (store / "config.yaml").read_text() == config
    assert 'href="evaluation.html"' in (store / "report.html").read_text()
    assert not (store / ".tmp").exists()
    files = json.loads((store / "manifest.json").read_text())["files"]
    assert files["report.html"]["sha256"] == sha256(store / "report.html")
    assert json.loads((store / "evaluation.json").read_text())["images"] == {"train": 2, "val": 1}

    # Killed between its pages: the manifest goes first and comes last.
    whole = {p: p.read_bytes() for p in store.rglob("*.*")}
    for name in ("manifest.json", "evaluation.html"):
        (store / name).unlink()
    (store / ".tmp").mkdir()
    (store / ".tmp/1-evaluation.html").write_text("<html>ha")
    done = label(*command, "evaluate=true")
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in store.rglob("*.*")} == whole


def test_an_evaluating_run_holds_a_claim(tmp_path, label, monkeypatch):
    """overwrite= or verify= beside it would delete what it reads."""
    create_folder_pair(tmp_path / "pair", n=2, size=(40, 48))
    make(tmp_path / "masks", Truth(n=2), by_lot(G))
    seen = {}

    def watch(module, name):
        function = getattr(module, name)

        def watched(store, *rest):
            with Claims(store.root) as claims, pytest.raises(StoreError, match=r"another run uses"):
                claims.require_exclusive("verify the store")
            seen[name] = True
            return function(store, *rest)

        monkeypatch.setattr(module, name, watched)

    watch(evaluation, "evaluate")
    watch(report, "write_choose_k")
    done = label(
        *("+dataset=folder_pair", "dataset.root=pair", "dataset.name=tiny", "masks=stored"),
        *("masks.store=masks", "features=shape", "assign.k=3", "engine.threads=1"),
        *("evaluate=true", "choose_k=[2,3]"),
    )
    assert done.returncode == 0, done.stderr
    assert seen == {"evaluate": True, "write_choose_k": True}
    assert not (tmp_path / "data/tiny_pl/.claims").exists()
