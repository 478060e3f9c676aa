"""verify=images: what has changed in the images since they were read, though their bytes count."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alps.assign.cluster import Cluster
from alps.cli.summary import print_verification
from alps.features.shape import ShapeFeatures
from alps.images.plain.folder import Folder
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label, settings_of
from alps.masks.auto import AutoMasks
from alps.store.image_changes import compare_images
from alps.store.label_store import LabelStore
from alps.store.manifest import sha256
from alps.store.plan import draft
from alps.store.verify import verify
from tests.fakes import ColorSegmenter, flat_colors

#: What holds no path of images.
MADE = ("masks", "features", "clusters", "labels", "ann", "categories.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four uncompressed images, one of them broken, and their store."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "images").mkdir()
    for i in range(3):
        Image.fromarray(flat_colors(40, 48, seed=i)).save(folder / f"images/{i}.bmp")
    (folder / "images/3.bmp").write_bytes(b"BM, but no image")
    run(folder / "store", folder / "images")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "x")
    return tmp_path / "x"


def parts(images):
    return {
        "image_set": Folder(str(images), "drawn"),
        "masks": AutoMasks(
            segmenter=ColorSegmenter(),
            points_per_side=4,
            stability_score_thresh=0.5,
            ground=0,
            tile_size=64,
            tile_overlap=16,
        ),
        "features": ShapeFeatures(),
        "assign": Cluster(k=2),
        "name": "tiny_pl",
        "shard_size": 2,
    }


def run(root, images, *, verified=False):
    engine = LocalEngine(threads=1)
    return label(root=root, config="", engine=engine, verified=verified, **parts(images))[0]


def check(folder):
    made = parts(folder / "images")
    new = draft(
        **settings_of(
            *(made[name] for name in ("image_set", "masks", "features", "assign")),
            name=made["name"],
            shard_size=made["shard_size"],
        )
    )
    assign = made["assign"]
    return verify(
        folder / "store",
        new,
        paint=assign.paint,
        categories=assign.categories(),
        images=made["image_set"],
    )


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def redraw(path):
    """Another picture in as many bytes."""
    image = np.asarray(Image.open(path))[::-1, ::-1]
    size = path.stat().st_size
    Image.fromarray(np.ascontiguousarray(image)).save(path)
    assert path.stat().st_size == size


def test_the_hash_of_each_file_is_kept_also_of_one_that_cannot_be_used(made):
    store = LabelStore(made / "store")
    kept = {i.image_id: i.sha256 for shard in range(2) for i in store.shard(shard).images()}
    assert kept == {f"{i}": sha256(made / f"images/{i}.bmp") for i in range(4)}
    assert [i.status for i in store.shard(1).images()] == ["ok", "failed"]


def test_images_that_are_the_same_are_no_fault(folder, capsys):
    (folder / "images/0.bmp").touch()
    findings = check(folder)
    assert findings.faults == ()
    print_verification(findings)
    assert capsys.readouterr().out.startswith("4 images are unchanged\nintact: ")


def test_one_that_changed_is_named_and_all_it_decided_on_is_made_anew(folder, capsys):
    store = folder / "store"
    (store / "evaluation.json").write_text("{}")
    redraw(folder / "images/1.bmp")
    assert run(store, folder / "images").complete  # nobody looks into the images
    findings = check(folder)
    problems = {fault.file: fault.problem for fault in findings.faults}
    assert problems["images/00000.parquet"] == "changed since they were read: 1.bmp"
    assert problems["clusters/centroids.npy"] == "made from images that have changed"
    assert "evaluation.json" in problems
    assert not (store / "evaluation.json").exists()
    assert findings.redo == {"masks": 1, "features": 1, "assign": 2}
    print_verification(findings)
    assert "1 images have changed (first: 1.bmp): their shards" in capsys.readouterr().out
    run(store, folder / "images", verified=True)
    whole = folder / "whole/store"
    run(whole, folder / "images")
    made = [name for name in files(whole) if name.partition("/")[0] in MADE]
    assert [files(store)[name] for name in made] == [files(whole)[name] for name in made]
    assert check(folder).faults == ()


def test_one_that_can_be_read_no_more_leaves_no_map(folder):
    path = folder / "images/2.bmp"
    path.write_bytes(b"BM".ljust(path.stat().st_size, b"x"))
    assert "ann/train/2.png" in {fault.file for fault in check(folder).faults}
    run(folder / "store", folder / "images", verified=True)
    listed = json.loads((folder / "store/manifest.json").read_text())
    assert "ann/train/2.png" not in listed["files"]
    assert listed["counts"]["failed"] == 2


def test_images_that_are_gone_take_nothing_with_them(folder):
    store = LabelStore(folder / "store")
    (folder / "images/1.bmp").unlink()
    changes = compare_images(store, Folder(str(folder / "images"), "x"), ())
    assert (changes.same, changes.changed, changes.absent) == (3, (), ("1.bmp",))
    assert [*changes.faults(store)] == []


def test_images_whose_hash_was_not_kept_are_counted():
    old = Path(__file__).parents[1] / "old_stores"
    changes = compare_images(LabelStore(old / "images_pl"), Folder(str(old / "images"), "x"), ())
    assert (changes.same, changes.changed, changes.absent, changes.unhashed) == (0, (), (), 4)
