"""What is asked to be made anew, what may be made anew, and who may ask."""

import errno
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alps.assign.cluster import Cluster
from alps.errors import ImageError, StoreError, Unavailable
from alps.features.shape import ShapeFeatures
from alps.images.plain.folder import Folder
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from alps.store import plan
from alps.store.claims import Claims
from alps.store.label_store import LabelStore
from tests.factories import create_images
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors


def arrays():
    return {f"{i}": flat_colors(48, 48, seed=i) for i in range(4)}


def run(root, images=None, *, points=4, overwrite=None):
    store, _ = label(
        image_set=images or ArrayImages(arrays()),
        masks=AutoMasks(
            segmenter=ColorSegmenter(),
            points_per_side=points,
            stability_score_thresh=0.5,
            ground=0,
            tile_size=64,
            tile_overlap=16,
        ),
        features=ShapeFeatures(),
        assign=Cluster(k=3),
        engine=LocalEngine(threads=1),
        root=root,
        name="tiny_pl",
        config="k: 3\n",
        shard_size=1,
        overwrite=overwrite,
    )
    return store


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def times(root):
    return {p.name: p.stat().st_mtime_ns for p in (root / "masks").iterdir()}


@pytest.mark.parametrize("stage", ["masks", "features", "assign"])
def test_a_kill_while_it_deletes_does_not_leave_a_complete_store(tmp_path, monkeypatch, stage):
    store = run(tmp_path / "store")
    before = files(store.root)
    delete = plan._delete

    def die_at_maps(path):
        if path.name == "ann":
            raise KeyboardInterrupt
        delete(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(plan, "_delete", die_at_maps)
        run(store.root, overwrite=stage)
    assert not store.complete
    run(store.root)
    assert files(store.root) == before


def test_a_run_that_has_claimed_no_shard_yet_is_seen(tmp_path, monkeypatch):
    """Another run may come between the plan and the first shard of one."""
    prepare, refused = plan.prepare, []

    def prepare_and_be_disturbed(root, **settings):
        store = prepare(root, **settings)
        with pytest.raises(StoreError, match=r"cannot redo masks: another run uses .*\(run-") as e:
            prepare(root, **{**settings, "claims": None, "overwrite": "masks"})
        refused.append(e)
        return store

    monkeypatch.setattr("alps.labelling.pipeline.prepare", prepare_and_be_disturbed)
    store = run(tmp_path / "store")
    assert refused
    fingerprint = store.info.stages["masks"]["fingerprint"].encode()
    for path in (store.root / "masks").iterdir():
        assert pq.read_schema(path).metadata[b"alps.fingerprint"] == fingerprint
    assert not (store.root / ".claims").exists()


def test_failed_images_are_tried_again_and_nothing_else(tmp_path):
    broken = arrays()
    broken["2"] = "x" * broken["2"].nbytes  # of as many bytes, so it is the same list of images
    run(tmp_path / "store", ArrayImages(broken))
    before = times(tmp_path / "store")
    assert LabelStore(tmp_path / "store").shard(2).images()[0].status == "failed"
    run(tmp_path / "store", overwrite="failed")
    after = times(tmp_path / "store")
    assert [name for name in before if before[name] != after[name]] == ["00002.parquet"]
    run(tmp_path / "whole/store")  # a report names its store
    assert files(tmp_path / "store") == files(tmp_path / "whole/store")


def test_without_failed_images_a_finished_store_is_left_alone(tmp_path):
    run(tmp_path / "store")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*") if p.is_file()}
    run(tmp_path / "store", overwrite="failed")
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*") if p.is_file()}
    assert before == after


def test_what_cannot_be_removed_is_one_line(tmp_path, monkeypatch):
    run(tmp_path / "store")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path / "x"))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(StoreError, match=r"cannot delete .*/x to make it again: Permiss"):
        run(tmp_path / "store", overwrite="features")


def test_images_that_vanish_with_their_folder_are_not_lost(tmp_path):
    create_images(tmp_path / "images", 4)
    images = Folder(str(tmp_path / "images"), "images")
    records = images.records()
    read = images.read
    away = tmp_path / "away"

    def read_and_lose(record):
        if record == records[2] and not away.exists():
            (tmp_path / "images").rename(away)  # a network drive that is gone
        return read(record)

    images.read = read_and_lose
    with pytest.raises(
        Unavailable, match=r"images no longer exists, so the run stops instead of skipping"
    ):
        run(tmp_path / "store", images)
    away.rename(tmp_path / "images")
    images.read = read
    store = run(tmp_path / "store", images)
    assert {image.status for shard in range(4) for image in store.shard(shard).images()} == {"ok"}


@pytest.mark.parametrize(
    ("number", "stops"), [(errno.EIO, True), (errno.EMFILE, True), (errno.EACCES, False)]
)
def test_a_disk_that_fails_is_not_the_fault_of_a_file(tmp_path, number, stops):
    images = ArrayImages(arrays())
    read = images.read

    def fail(record):
        if record.image_id == "1":
            error = ImageError("cannot read 1.png: so it is")
            error.__cause__ = OSError(number, "so it is")
            raise error
        return read(record)

    images.read = fail
    if stops:
        with pytest.raises(Unavailable, match=r"1\.png.*the disk or the network failed"):
            run(tmp_path / "store", images)
        images.read = read
    store = run(tmp_path / "store", images)
    failed = [
        image.image_id for shard in range(4) for image in store.shard(shard).images() if image.error
    ]
    assert failed == ([] if stops else ["1"])


def test_links_and_hidden_files_in_a_store_are_left_alone(tmp_path):
    root = tmp_path / "store"
    run(root)
    (root / "manifest.json").unlink()
    (root / "gone").symlink_to("nowhere")
    (root / "self").symlink_to(".")
    (root / "ann/.hidden").write_text("")
    run(root)
    listed = json.loads((root / "manifest.json").read_text())["files"]
    assert not {"gone", "ann/.hidden"} & listed.keys()
    assert not any(name.startswith("self/") for name in listed)


def test_others_are_told_where_claims_cannot_be_read(tmp_path, monkeypatch):
    with Claims(tmp_path) as claims:
        claims.register_run()

        def refuse(_path):
            raise PermissionError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch, pytest.raises(StoreError, match="Permission denied"):
            patch.setattr(Path, "iterdir", refuse)
            claims.other_claims()
