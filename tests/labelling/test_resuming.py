"""Runs that are killed, fail or are repeated end with the same bytes."""

import errno
import os
import shutil

import pytest

from alps.assign.baselines import Binary, Random
from alps.assign.cluster import Cluster
from alps.errors import (
    ConfigError,
    StoreError,
    StoreMismatch,
)
from alps.store.claims import Claims
from tests.fakes import ColorSegmenter
from tests.labelling.small_runs import files, images, run


def test_a_second_run_changes_no_file(reference):
    before = {p: p.stat().st_mtime_ns for p in reference.rglob("*") if p.is_file()}
    run(reference, images())
    after = {p: p.stat().st_mtime_ns for p in reference.rglob("*") if p.is_file()}
    assert before == after


class Killed(BaseException):
    """Not an `Exception`, so that nothing in the pipeline catches it."""


@pytest.mark.parametrize("tiles", [1, 3, 6, 8, 10])
def test_a_killed_run_resumes_with_the_same_bytes(tmp_path, reference, tiles):
    segmenter = ColorSegmenter()
    embed = segmenter.embed

    def embed_and_die(image):
        embedding = embed(image)
        if segmenter.embedded == tiles:
            raise Killed
        return embedding

    segmenter.embed = embed_and_die
    with pytest.raises(Killed):
        run(tmp_path / "store", images(), segmenter=segmenter)
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "store/masks").glob("*")}
    run(tmp_path / "store", images())
    assert files(tmp_path / "store") == files(reference)
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())


@pytest.mark.parametrize("missing", ["labels", "clusters", "manifest.json", "ann", "report.html"])
def test_a_run_killed_late_resumes_with_the_same_bytes(tmp_path, reference, missing):
    """The files that are written after the missing one are missing as well."""
    root = tmp_path / "store"
    shutil.copytree(reference, root)
    later = {
        "clusters": ["clusters", "labels", "ann", "categories.json", "report.html"],
        "ann": ["labels", "ann", "report.html"],
        "labels": ["labels/00005.parquet", "report.html"],
        "report.html": ["report.html"],
        "manifest.json": [],
    }[missing]
    for name in [*later, "manifest.json"]:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(root, images())
    assert files(root) == files(reference)


@pytest.mark.parametrize("writes", [1, 2, 6, 15])
def test_a_full_disk_costs_at_most_one_shard(tmp_path, reference, monkeypatch, writes):
    """The error occurs in fsync, as on a real full disk."""
    count, fsync = iter(range(1, 1000)), os.fsync

    def fill(descriptor):
        if next(count) >= writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", fill)
    with pytest.raises(
        StoreError, match=r"No space left on device; free disk space or fix the permissions"
    ):
        run(tmp_path / "store", images())
    monkeypatch.undo()
    expected = files(reference)
    assert all(expected[n] == b for n, b in files(tmp_path / "store").items() if n[0] != ".")
    run(tmp_path / "store", images())
    assert files(tmp_path / "store") == expected


EVERY_OPTION = Cluster(
    k=9,
    metric="spherical",
    pca=3,
    whiten=True,
    restarts=2,
    weight="sqrt_area",
    merge=4,
    reject=0.2,
    fill=2,
)


@pytest.mark.parametrize("assign", [EVERY_OPTION, Random(k=4, fill=2), Binary()])
@pytest.mark.parametrize("missing", ["labels", "clusters"])
def test_labelling_with_any_assigner_resumes_with_the_same_bytes(
    tmp_path, reference, assign, missing
):
    uninterrupted, root = tmp_path / "uninterrupted/store", tmp_path / "store"
    shutil.copytree(reference, uninterrupted)
    run(uninterrupted, images(), assign=assign, overwrite="assign")
    shutil.copytree(uninterrupted, root)
    for path in (root / "manifest.json", root / "report.html", root / "categories.json"):
        path.unlink()
    if missing == "clusters":
        (root / "clusters/centroids.npy").unlink(
            missing_ok=True
        )  # written last, so it marks the clusters as complete
        shutil.rmtree(root / "labels")
        shutil.rmtree(root / "ann")
    else:
        (root / "labels/00005.parquet").unlink()
    run(root, images(), assign=assign)
    assert files(root) == files(uninterrupted)


def test_overwrite_features_keeps_the_masks_and_writes_the_same_bytes(tmp_path, reference):
    root = tmp_path / "store"
    shutil.copytree(reference, root)
    before = {p: p.stat().st_mtime_ns for p in (root / "masks").glob("*")}
    run(root, images(), overwrite="features")
    assert {p: p.stat().st_mtime_ns for p in (root / "masks").glob("*")} == before
    assert files(root) == files(reference)


def test_overwrite_is_refused_while_other_runs_write(tmp_path, reference, monkeypatch):
    root = tmp_path / "store"
    shutil.copytree(reference, root)
    with Claims(root) as other:
        other.take("labels-00002")
        with pytest.raises(
            StoreError, match=r"cannot redo features: another run uses .*labels-00002"
        ):
            run(root, images(), overwrite="features")
    assert files(root) == files(reference)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(ConfigError, match="overwrite=masks deletes files that all 8 runs"):
        run(root, images(), overwrite="masks")
    assert files(root) == files(reference)


def test_differing_settings_are_refused(tmp_path, reference):
    root = tmp_path / "store"
    shutil.copytree(reference, root)
    with pytest.raises(
        StoreMismatch, match=r"masks\.points_per_side is 5 in the store and 6 in this run"
    ):
        run(root, images(), points_per_side=6)
    with pytest.raises(StoreMismatch, match=r"assign\.seed is 0 in the store and 1 in this run"):
        run(root, images(), seed=1)
