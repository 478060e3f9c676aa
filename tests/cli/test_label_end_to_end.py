"""label.py with real weights and all pictures, from unreadable images to a mended store."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.programs import start

pytestmark = pytest.mark.pictures


def test_a_store_is_made_compared_and_mended(tmp_path, monkeypatch, label):
    """A truncated PNG and an empty JPEG among good images; first in a process of its own."""
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "deadbeef")
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        image = np.full((90, 120, 3), 90, np.uint8)
        image[20:60, 20 + 10 * i : 80] = rng.integers(0, 255, 3)
        image[65:85, 10:30] = rng.integers(0, 255, 3)
        Image.fromarray(image).save(images / f"{i}.png")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:100])
    (images / "none.jpg").touch()
    command = ["+dataset=folder", f"dataset.root={images}", "dataset.name=tiny"]
    options = ["masks.points_per_side=4", "assign.k=2", "engine.threads=1"]

    done = start("label.py", *command, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped cut.png" in done.stderr
    assert "skipped none.jpg" in done.stderr
    assert "2 labelled, 2 skipped" in done.stdout
    assert "data/tiny_pl/report.html" in done.stdout
    store = tmp_path / "data/tiny_pl"
    assert sorted(p.name for p in store.iterdir()) == [
        *(
            "ann",
            "categories.json",
            "clusters",
            "config.yaml",
            "features",
            "findings.json",
            "images",
        ),
        "labels",
        *("manifest.json", "masks", "plan.parquet", "report.html", "statistics"),
        "store.json",
    ]
    assert str(store) not in (store / "config.yaml").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "images"]

    again = label(*command, *options)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout

    before = json.loads((store / "manifest.json").read_text())["files"]
    compared = label(*command, *options, "choose_k=[2,3]")
    assert compared.returncode == 0, compared.stderr
    assert "data/tiny_pl/choose_k.html" in compared.stdout
    after = json.loads((store / "manifest.json").read_text())["files"]
    new = {"choose_k.html", *(f"statistics/choose_k.{end}" for end in ("csv", "json", "png"))}
    assert after.keys() - before.keys() == new
    assert [name for name in before if before[name] != after[name]] == ["report.html"]
    assert 'href="choose_k.html"' in (store / "report.html").read_text()

    checked = label(*command, *options, "verify=true")
    assert checked.returncode == 0, checked.stderr
    assert re.search(r"intact: \d+ files, 4 images, \d+ masks\n", checked.stdout)
    (store / "labels/00000.parquet").write_bytes(b"half")
    mended = label(*command, *options, "verify=true")
    assert mended.returncode == 0, mended.stderr
    assert re.search(r"labels/00000.parquet *│ 4 bytes, expected \d+", mended.stdout)
    assert re.search(
        r"\n\d+ files checked, 1 damaged \(removed\) or missing; rebuilding assign of 1 shards\n",
        mended.stdout,
    )
    assert "repaired; all bytes match the old manifest" in mended.stdout
    assert json.loads((store / "manifest.json").read_text())["files"] == after
    assert not any(b"deadbeef" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())

    other = label(*command, *options, "masks.points_per_side=5")
    assert other.returncode == 1
    assert "masks.points_per_side is 4 in the store and 5 in this run" in other.stderr
    assert other.stderr.count("\n") == 1

    many = label(
        *command,
        *options[:1],
        "assign.k=999",
        "overwrite=assign",
        "engine.threads=1",
    )
    assert many.returncode == 1
    assert re.search(r"error: \d+ masks cannot form 999 clusters", many.stderr)
