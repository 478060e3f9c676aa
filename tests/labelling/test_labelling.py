"""The whole pipeline on small generated images with the fake segmenter."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alps.assign.baselines import Binary, Random
from alps.assign.cluster import Cluster
from alps.errors import (
    ConfigError,
    ImageError,
    PieceLost,
    StoreError,
    StoreMismatch,
    TooFewMasks,
    WorkersLost,
)
from alps.features.sam import SamFeatures
from alps.images.samrs.images import Samrs
from alps.labelling import pipeline as labelling
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.labelling.timings import Timings
from alps.masks.auto import AutoMasks
from alps.store.claims import Claims
from alps.store.label_store import LabelStore
from tests.factories import create_samrs
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors

pytestmark = pytest.mark.usefixtures("no_pictures")


def images(n=6):
    sizes = [(64, 64), (48, 80), (100, 40)]
    return {f"site/{i}": flat_colors(*sizes[i % 3], seed=i) for i in range(n)}


def test_samrs_as_published_is_labelled(tmp_path):
    create_samrs(tmp_path / "samrs")
    images = Samrs(str(tmp_path / "samrs"))
    store = run(tmp_path / "store", images)
    records = [record for shard in store.plan for record in shard]
    assert {r.image_id.split("/")[0] for r in records} == {"sota", "sior", "fast"}
    assert {r.split for r in records} == {"train", "val"}
    for record in records:
        path = tmp_path / f"store/ann/{record.split}/{record.image_id}.png"
        assert np.array(Image.open(path)).shape == images.read(record).size
    assert store.info.images["target"] == "alps.images.Samrs"


def run(
    root,
    arrays,
    *,
    segmenter=None,
    k=4,
    points_per_side=5,
    max_area=1.0,
    seed=0,
    assign=None,
    with_features=True,
    **options,
):
    segmenter = segmenter or ColorSegmenter()
    tiles = {"tile_size": 64, "tile_overlap": 16}
    store, _ = label(
        image_set=ArrayImages(arrays) if isinstance(arrays, dict) else arrays,
        masks=AutoMasks(
            segmenter=segmenter,
            points_per_side=points_per_side,
            stability_score_thresh=0.5,
            max_area=max_area,
            **tiles,
        ),
        features=SamFeatures(segmenter=segmenter, **tiles) if with_features else None,
        assign=assign or Cluster(k=k, seed=seed),
        engine=LocalEngine(threads=1),
        root=root,
        name="tiny_pl",
        config="k: 4\n",
        **options,
    )
    return store


def files(root):
    return {
        p.relative_to(root).as_posix(): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "store"
    run(root, images())
    return root


def test_every_image_gets_a_map_of_its_size(undisturbed):
    store = LabelStore(undisturbed)
    seen = set()
    for image_id, array in images().items():
        index_map = np.array(Image.open(undisturbed / f"ann/train/{image_id}.png"))
        assert index_map.shape == array.shape[:2]
        classes = set(np.unique(index_map)) - {255}
        assert classes <= set(range(4))
        seen |= classes
    assert seen == {0, 1, 2, 3}
    assert store.complete
    for shard in range(len(store.plan)):
        n = sum(map(len, store.masks(shard).values()))
        assert len(store.features(shard)) == len(store.labels(shard)[0]) == n


def test_the_map_shows_what_the_tables_say(undisturbed):
    store = LabelStore(undisturbed)
    ids, _ = store.labels(0)
    (image_id, masks), *_ = store.masks(0).items()
    index_map = np.array(Image.open(undisturbed / f"ann/train/{image_id}.png"))
    smallest = int(masks.area.argmin())
    assert (index_map[masks.dense()[smallest]] == ids[smallest]).all()
    assert ((index_map == 255) == ~masks.dense().any(0)).all()


def test_a_second_run_changes_nothing(undisturbed):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    run(undisturbed, images())
    after = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    assert before == after


class Killed(BaseException):
    """Nothing in the pipeline may catch it."""


@pytest.mark.parametrize("tiles", [1, 3, 6, 8, 10])
def test_a_killed_run_resumes_with_the_same_bytes(tmp_path, undisturbed, tiles):
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
    assert files(tmp_path / "store") == files(undisturbed)
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())


@pytest.mark.parametrize("gone", ["labels", "clusters", "manifest.json", "ann", "report.html"])
def test_a_run_killed_late_resumes_with_the_same_bytes(tmp_path, undisturbed, gone):
    """As if the kill had come just before: what comes later is missing too."""
    root = tmp_path / "store"
    shutil.copytree(undisturbed, root)
    later = {
        "clusters": ["clusters", "labels", "ann", "categories.json", "report.html"],
        "ann": ["labels", "ann", "report.html"],
        "labels": ["labels/00005.parquet", "report.html"],
        "report.html": ["report.html"],
        "manifest.json": [],
    }[gone]
    for name in [*later, "manifest.json"]:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(root, images())
    assert files(root) == files(undisturbed)


@pytest.mark.parametrize("writes", [1, 2, 6, 15])
def test_a_full_disk_loses_no_more_than_a_shard(tmp_path, undisturbed, monkeypatch, writes):
    """As it is found out: when what was written is to reach the disk."""
    count, fsync = iter(range(1, 1000)), os.fsync

    def fill(descriptor):
        if next(count) >= writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", fill)
    with pytest.raises(StoreError, match=r"No space left on device; free or permit the place"):
        run(tmp_path / "store", images())
    monkeypatch.undo()
    whole = files(undisturbed)
    assert all(whole[n] == b for n, b in files(tmp_path / "store").items() if n[0] != ".")
    run(tmp_path / "store", images())
    assert files(tmp_path / "store") == whole


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
@pytest.mark.parametrize("gone", ["labels", "clusters"])
def test_whatever_assigns_resumes_with_the_same_bytes(tmp_path, undisturbed, assign, gone):
    unbroken, root = tmp_path / "unbroken/store", tmp_path / "store"
    shutil.copytree(undisturbed, unbroken)
    run(unbroken, images(), assign=assign, overwrite="assign")
    shutil.copytree(unbroken, root)
    for path in (root / "manifest.json", root / "report.html", root / "categories.json"):
        path.unlink()
    if gone == "clusters":
        (root / "clusters/centroids.npy").unlink(missing_ok=True)  # the commit of the others
        shutil.rmtree(root / "labels")
        shutil.rmtree(root / "ann")
    else:
        (root / "labels/00005.parquet").unlink()
    run(root, images(), assign=assign)
    assert files(root) == files(unbroken)


def test_masks_that_are_rejected_are_unlabelled(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "store")
    assign = Cluster(k=4, reject=0.4)
    store = run(tmp_path / "store", images(), assign=assign, overwrite="assign")
    ids = np.concatenate([store.labels(i)[0] for i in range(len(store.plan))])
    clusters = store.clusters()
    assert (ids == -1).sum() == sum(int(0.4 * n) for n in clusters.counts)
    usual = LabelStore(undisturbed)
    before = np.concatenate([usual.labels(i)[0] for i in range(len(usual.plan))])
    assert (ids[ids >= 0] == before[ids >= 0]).all()


@pytest.mark.parametrize("assign", [Random(k=4), Binary()])
def test_classes_that_need_no_features_get_none(tmp_path, undisturbed, assign):
    shutil.copytree(undisturbed, tmp_path / "store")
    shutil.copytree(undisturbed, tmp_path / "usual")
    options = {"assign": assign, "overwrite": "features"}
    store = run(tmp_path / "store", images(), with_features=False, **options)
    assert store.complete
    assert not (tmp_path / "store/features").exists()
    assert not (tmp_path / "store/clusters").exists()
    assert list(store.info.stages) == ["masks", "assign"]
    run(tmp_path / "usual", images(), **options)
    assert files(tmp_path / "store/ann") == files(tmp_path / "usual/ann")
    distance = np.concatenate([store.labels(i)[1] for i in range(len(store.plan))])
    assert np.isnan(distance).all()
    assert pq.read_table(tmp_path / "store/labels/00000.parquet")["distance"].null_count
    assert assign.num_classes == store.info.num_classes == len(store.categories())


def test_binary_maps_say_mask_or_ground(tmp_path):
    store = run(tmp_path / "store", images(), assign=Binary(), with_features=False)
    (image_id, masks), *_ = store.masks(0).items()
    index_map = np.array(Image.open(tmp_path / f"store/ann/train/{image_id}.png"))
    assert ((index_map == 0) == masks.dense().any(axis=0)).all()
    assert ((index_map == 1) == ~masks.dense().any(axis=0)).all()


def test_broken_images_are_skipped_named_and_counted(tmp_path, caplog):
    arrays = {**images(3), "site/broken": "truncated after 12 bytes"}
    store = run(tmp_path / "store", arrays)
    statuses = {s.image_id: s for shard in range(len(store.plan)) for s in store.images(shard)}
    assert statuses["site/broken"].status == "failed"
    assert "truncated after 12 bytes" in statuses["site/broken"].error
    assert [s.status for s in statuses.values()].count("ok") == 3
    assert "skipped site/broken.png" in caplog.text
    assert not (tmp_path / "store/ann/train/site/broken.png").exists()
    assert store.complete


def test_only_broken_images_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r"none of the 2 images of memory can be used; the first"):
        run(tmp_path / "store", {"a": "zero bytes", "b": "zero bytes"})


def test_an_image_without_masks_is_all_unlabelled(tmp_path):
    arrays = {**images(3), "flat": np.full((64, 64, 3), 7, np.uint8)}
    store = run(tmp_path / "store", arrays, max_area=0.99)
    statuses = [s for shard in range(len(store.plan)) for s in store.images(shard)]
    assert {s.image_id: s.status for s in statuses}["flat"] == "empty"
    assert (np.array(Image.open(tmp_path / "store/ann/train/flat.png")) == 255).all()


def test_more_classes_than_masks_names_both_and_loses_nothing(tmp_path):
    with pytest.raises(TooFewMasks, match="500"):
        run(tmp_path / "store", images(2), k=500)
    masks = files(tmp_path / "store/masks")
    assert run(tmp_path / "store", images(2), k=3).complete
    assert files(tmp_path / "store/masks") == masks


def test_300_classes_are_written_in_16_bits(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for i in range(8):  # 64 squares of their own colour each
        squares = rng.integers(0, 255, (8, 8, 3), np.uint8)
        arrays[str(i)] = squares.repeat(8, 0).repeat(8, 1)
    store = run(tmp_path / "store", arrays, k=300, points_per_side=8)
    assert store.info.ignore_index == 65535
    maps = [np.array(Image.open(p)) for p in (tmp_path / "store/ann/train").glob("*.png")]
    values = np.unique(maps)
    assert values[values < 65535].max() > 255


def test_overwrite_features_keeps_the_masks_and_gives_the_same_bytes(tmp_path, undisturbed):
    root = tmp_path / "store"
    shutil.copytree(undisturbed, root)
    before = {p: p.stat().st_mtime_ns for p in (root / "masks").glob("*")}
    run(root, images(), overwrite="features")
    assert {p: p.stat().st_mtime_ns for p in (root / "masks").glob("*")} == before
    assert files(root) == files(undisturbed)


def test_what_other_runs_write_is_not_deleted(tmp_path, undisturbed, monkeypatch):
    root = tmp_path / "store"
    shutil.copytree(undisturbed, root)
    with Claims(root) as other:
        other.take("labels-00002")
        with pytest.raises(StoreError, match=r"another run is at .*labels-00002.*redo features"):
            run(root, images(), overwrite="features")
    assert files(root) == files(undisturbed)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(ConfigError, match="overwrite=masks deletes what all 8 runs write"):
        run(root, images(), overwrite="masks")
    assert files(root) == files(undisturbed)


def test_other_settings_are_refused(tmp_path, undisturbed):
    root = tmp_path / "store"
    shutil.copytree(undisturbed, root)
    with pytest.raises(StoreMismatch, match=r"masks\.points_per_side is 5 there and 6 in this run"):
        run(root, images(), points_per_side=6)
    with pytest.raises(StoreMismatch, match=r"assign\.seed is 0 there and 1 in this run"):
        run(root, images(), seed=1)


def test_the_order_of_listing_changes_nothing(tmp_path, undisturbed):
    run(tmp_path / "store", dict(reversed(images().items())))
    assert files(tmp_path / "store") == files(undisturbed)


def test_shard_size_changes_neither_masks_nor_maps(tmp_path, undisturbed):
    """One mini-batch holds this many masks, so even the clusters agree."""
    run(tmp_path / "store", images(), shard_size=6)
    for path in (undisturbed / "ann").rglob("*.png"):
        other = tmp_path / "store" / path.relative_to(undisturbed)
        assert other.read_bytes() == path.read_bytes()


def test_a_shard_that_ends_workers_when_all_its_images_are_done_names_the_last(
    tmp_path, undisturbed
):
    shutil.copytree(undisturbed, tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    (store.root / "masks/00002.parquet").unlink()

    def share(*_arguments, **_options):
        yield 2, 1
        raise PieceLost(2, "was killed")

    with pytest.raises(WorkersLost, match=r"shard 2 .*it was at site/2\.png or one of the"):
        labelling._do_together(share, store, Timings(), "masks", lambda _: Timings(), ("masks",))
