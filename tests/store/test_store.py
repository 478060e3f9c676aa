import hashlib
import json
import os
import resource
import subprocess
import time
from dataclasses import fields
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow.parquet as pq
import pytest

from alps.assign.rows import Rows
from alps.errors import ConfigError, StoreError, StoreMismatch
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.store.manifest import write_manifest
from alps.store.plan import prepare
from alps.store.processes import HOST, start_time
from alps.structures.masks import Masks
from alps.structures.records import Category, Clusters, ImageRecord

IDENTITIES = {
    "masks": {"source": "auto", "points_per_side": 32},
    "features": {"features": "sam"},
    "assign": {"k": 3},
}


def open_store(root, *, n=6, **changes):
    settings = {
        "name": "tiny_pl",
        "images": {"target": "x", "root": "r"},
        "records": [ImageRecord(f"d/{i}", f"d/{i}.png", bytes=i) for i in range(n)],
        "identities": IDENTITIES,
        "num_classes": 3,
        "ignore_index": 255,
        "versions": {"alps": "0"},
        "shard_size": 2,
    }
    return prepare(root, **{**settings, **changes})


def fill(store, shard=0, seed=0):
    rng = np.random.default_rng(seed)
    masks = {}
    statuses = []
    for i, record in enumerate(store.plan[shard]):
        masks[record.image_id] = Masks.from_array(rng.random((i + 1, 8, 6)) < 0.5)
        statuses.append(ImageStatus(record.image_id, "ok", None, 8, 6, i + 1, 10))
    n = sum(map(len, masks.values()))
    store.shard(shard).write_features(rng.random((n, 4)).astype(np.float32))
    store.shard(shard).write_masks(statuses, masks)
    return masks


def test_masks_features_and_labels_come_back(tmp_path):
    store = open_store(tmp_path)
    masks = fill(store)
    back = LabelStore(tmp_path)
    assert list(back.shard(0).masks()) == ["d/0", "d/1"]
    for image_id, expected in masks.items():
        found = back.shard(0).masks()[image_id]
        assert found.counts == expected.counts
        assert found.size == expected.size
        for name in ("xyxy", "area", "predicted_iou", "stability_score", "point_coords"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert back.shard(0).features().shape == (3, 4)
    assert back.shard(0).features().dtype == np.float16
    store.shard(0).write_labels(np.array([2, 0, -1], np.int32), np.array([0.5, 1, 2], np.float32))
    ids, distance = back.shard(0).labels()
    assert ids.tolist() == [2, 0, -1]
    assert distance.tolist() == [0.5, 1, 2]
    table = pq.read_table(tmp_path / "labels/00000.parquet")
    assert table["image_id"].to_pylist() == ["d/0", "d/1", "d/1"]
    assert table["mask_id"].to_pylist() == [0, 0, 1]


def test_features_of_more_shards_than_files_may_be_open(tmp_path, monkeypatch):
    """A memory map holds its file open; SAMRS has 1,600 shards, a process 1,024 files."""
    monkeypatch.setattr("alps.store.label_store.MAX_OPEN", 4)
    store = open_store(tmp_path, n=60, shard_size=1)
    for shard in range(60):
        fill(store, shard, seed=shard)
    blocks = store.all_features()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(fd.name) for fd in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    try:
        rows = Rows(blocks).take(np.arange(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(
        rows, np.concatenate([store.shard(i).features() for i in range(60)])
    )


def test_a_recipe_without_distances_writes_nulls(tmp_path):
    store = open_store(tmp_path)
    fill(store)
    store.shard(0).write_labels(np.array([0, 1, 2], np.int32), None)
    assert pq.read_table(tmp_path / "labels/00000.parquet")["distance"].null_count == 3


def test_failed_and_empty_images(tmp_path):
    store = open_store(tmp_path)
    statuses = [
        ImageStatus("d/0", "failed", "zero bytes", 0, 0, 0, 0),
        ImageStatus("d/1", "empty", None, 8, 6, 0, 0),
    ]
    store.shard(0).write_features(np.zeros((0, 4), np.float32))
    store.shard(0).write_masks(statuses, {"d/1": Masks.empty((8, 6))})
    assert store.shard(0).images() == statuses
    assert list(store.shard(0).masks()) == ["d/1"]
    assert store.shard(0).features().shape == (0, 4)


def test_missing_shards_follow_the_commit_mark(tmp_path):
    store = open_store(tmp_path)
    assert store.missing("masks") == [0, 1, 2]
    fill(store, 1)
    assert store.missing("masks") == store.missing("features") == [0, 2]
    assert store.has("masks", 1)
    assert not store.has("masks", 0)


def test_the_plan_is_sorted_and_fixed(tmp_path):
    records = [ImageRecord(f"{i}", f"{i}.png") for i in (2, 0, 1)]
    store = open_store(tmp_path, records=records, shard_size=None)
    assert [[r.image_id for r in shard] for shard in store.plan] == [["0"], ["1"], ["2"]]
    again = open_store(tmp_path, records=records[::-1], shard_size=3)
    assert list(again.plan) == list(store.plan)


def test_the_fingerprint_of_the_images_is_that_of_their_list(tmp_path):
    store = open_store(tmp_path)
    rows = [[r.split, r.image_id, r.file_name, r.bytes] for shard in store.plan for r in shard]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert store.info.images["fingerprint"] == digest[:16]


def test_shards_grow_with_the_image_set(tmp_path):
    records = [ImageRecord(f"{i:05d}", f"{i}.png") for i in range(10_000)]
    store = open_store(tmp_path, records=records, shard_size=None)
    assert {*store.plan.sizes[:-1].tolist()} == {64}


def test_nothing_half_written_appears(tmp_path):
    store = open_store(tmp_path)
    with pytest.raises(RuntimeError, match="power cut"), store.writing("ann/train/x.png") as file:
        file.write(b"half")
        raise RuntimeError("power cut")
    assert not (tmp_path / "ann/train/x.png").exists()
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_only_what_dead_processes_left_is_removed(tmp_path):
    store = open_store(tmp_path)
    dead = subprocess.Popen(["true"])
    dead.wait()
    hour = time.time() - 3601
    names = {
        f"{dead.pid}-5-a-{HOST}": True,
        f"{os.getpid()}-{start_time(os.getpid())}-b-{HOST}": False,
        f"{os.getpid()}-5-of_an_earlier_process-{HOST}": True,
        "7-5-c-elsewhere": False,
        "7-5-d-long-ago-elsewhere": True,
        "7-named_by_an_older_alps": True,
    }
    for name in names:
        (tmp_path / ".tmp" / name).write_text("ha")
    os.utime(tmp_path / ".tmp/7-5-d-long-ago-elsewhere", (hour, hour))
    open_store(tmp_path)
    left = {path.name for path in (tmp_path / ".tmp").iterdir()}
    assert left == {name for name, gone in names.items() if not gone}
    for path in (tmp_path / ".tmp").iterdir():
        path.unlink()
    with store.writing("manifest.json") as file:
        file.write(b"{}")
    open_store(tmp_path)
    assert not (tmp_path / ".tmp").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"masks": {"source": "auto", "points_per_side": 16}},
            "masks.points_per_side is 32 in the store",
        ),
        (
            {"features": {"features": "timm"}},
            "features.features is sam in the store and timm in this run",
        ),
        ({"assign": {"k": 5}}, r"assign.k is 3 in the store and 5 in this run.*overwrite=assign"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, change, message):
    store = open_store(tmp_path)
    fill(store)
    store.shard(0).write_labels(np.zeros(3, np.int32), None)
    with pytest.raises(StoreMismatch, match=message):
        open_store(tmp_path, identities={**IDENTITIES, **change})


def test_other_images_are_refused_by_count_and_name(tmp_path):
    fill(open_store(tmp_path))
    with pytest.raises(StoreMismatch, match=r"1 added, 0 removed, 0 changed since \(first: d/6\)"):
        open_store(tmp_path, n=7)


def test_overwrite_redoes_a_stage_and_those_after_it(tmp_path):
    store = open_store(tmp_path)
    fill(store)
    store.shard(0).write_labels(np.zeros(3, np.int32), None)
    write_bytes = (tmp_path / "masks/00000.parquet").read_bytes()
    with pytest.raises(StoreMismatch, match=r"features\.features"):
        open_store(tmp_path, identities={**IDENTITIES, "features": {"x": 1}}, overwrite="assign")
    store = open_store(
        tmp_path, identities={**IDENTITIES, "features": {"x": 1}}, overwrite="features"
    )
    assert (tmp_path / "masks/00000.parquet").read_bytes() == write_bytes
    assert store.missing("features") == store.missing("assign") == [0, 1, 2]
    assert store.info.stages["features"]["identity"] == {"x": 1}
    store = open_store(tmp_path, n=3, overwrite="masks")
    assert store.missing("masks") == [0, 1]


def test_a_stage_that_wrote_nothing_may_change_its_mind(tmp_path):
    """Too few masks for k: the user gives a smaller k and goes on."""
    fill(open_store(tmp_path))
    store = open_store(tmp_path, identities={**IDENTITIES, "assign": {"k": 2}}, num_classes=2)
    assert store.has("masks", 0)
    assert LabelStore(tmp_path).info.num_classes == 2


def test_names_that_differ_in_case_only_are_refused(tmp_path):
    records = [ImageRecord("A", "A.png"), ImageRecord("a", "a.png")]
    with pytest.raises(ConfigError, match=r"share the name 'a': A.png and a.png; rename"):
        open_store(tmp_path, records=records)


def test_a_map_where_a_folder_must_lie_is_refused(tmp_path):
    records = [ImageRecord("x", "x.jpg"), ImageRecord("x.png/y", "x.png/y.jpg")]
    with pytest.raises(ConfigError, match=r"x.png/y.jpg and x.jpg; rename"):
        open_store(tmp_path, records=records)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="not empty and not a label store"):
        open_store(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_store_newer_store_broken_store(tmp_path):
    with pytest.raises(StoreError, match=r"no label store at .*; make one with label.py"):
        LabelStore(tmp_path)
    open_store(tmp_path)
    raw = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**raw, "schema_version": 99}))
    with pytest.raises(StoreError, match="has schema version 99, but this ALPS reads version 1"):
        LabelStore(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="cannot read"):
        LabelStore(tmp_path)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"7", b'{"schema_version": 1}', b"\xff{}", b""])
def test_a_damaged_description_is_one_line(tmp_path, content):
    open_store(tmp_path)
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.json"):
        LabelStore(tmp_path)


def test_damaged_arrays_name_the_file(tmp_path):
    store = open_store(tmp_path)
    fill(store)
    path = tmp_path / "features/00000.npy"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"cannot read .*00000\.npy.*delete the file"):
        store.shard(0).features()
    path.unlink()
    with pytest.raises(StoreError, match=r"cannot read .*00000\.npy"):
        store.shard(0).features()
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/centroids.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(StoreError, match=r"cannot read .*centroids\.npy"):
        store.clusters()


def test_a_broken_table_names_the_file(tmp_path):
    store = open_store(tmp_path)
    fill(store)
    (tmp_path / "masks/00000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match=r"masks/00000.parquet.*delete the file"):
        store.shard(0).masks()


def test_tables_carry_the_fingerprint(tmp_path):
    store = open_store(tmp_path)
    fill(store)
    metadata = pq.read_schema(tmp_path / "masks/00000.parquet").metadata
    assert metadata[b"alps.fingerprint"].decode() == store.info.stages["masks"]["fingerprint"]


def test_manifest_counts_and_hashes_every_file(tmp_path):
    store = open_store(tmp_path)
    for shard in range(3):
        fill(store, shard)
    store.write_categories([Category(0, "cluster_00", (1, 2, 3))])
    assert not store.complete
    write_manifest(store)
    assert store.complete
    text = (tmp_path / "manifest.json").read_text()
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=1)
    assert [*manifest["files"]] == [str(p) for p in sorted(map(PurePosixPath, manifest["files"]))]
    assert manifest["counts"] == {"images": 6, "ok": 6, "empty": 0, "failed": 0, "masks": 9}
    on_disk = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    for name, entry in manifest["files"].items():
        data = (tmp_path / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert store.categories() == [Category(0, "cluster_00", (1, 2, 3))]


def test_clusters_are_there_once_all_their_arrays_are(tmp_path, monkeypatch):
    """A kill after any of the files leaves none: the next run fits them again."""
    store = open_store(tmp_path)
    clusters = Clusters(
        centroids=np.ones((3, 2), np.float32),
        counts=np.array([4, 2, 1]),
        mean=np.zeros(4, np.float32),
        components=np.ones((2, 4), np.float32),
        category_id=np.array([0, 1, 1], np.int32),
        tree=np.zeros((1, 4)),
        radius=np.ones(3, np.float32),
    )
    n = len(fields(Clusters))
    writing = LabelStore.writing
    for whole in range(n):
        left = [whole]

        def write_some(store, name, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return writing(store, name)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LabelStore, "writing", write_some)
            store.write_clusters(clusters)
        assert len([*(tmp_path / "clusters").glob("*.npy")]) == whole
        assert store.clusters() is None
    store.write_clusters(clusters)
    found = store.clusters()
    for field in fields(Clusters):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(clusters, field.name))
