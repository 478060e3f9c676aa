"""Every kind of damage is found, named and mended, and the store ends with the bytes it had."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alps.assign.cluster import Cluster
from alps.cli.summary import print_verification
from alps.errors import StoreError, StoreMismatch
from alps.features.sam import SamFeatures
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label, settings_of
from alps.masks.auto import AutoMasks
from alps.store.claims import Claims
from alps.store.faults import Fault
from alps.store.label_store import LabelStore
from alps.store.manifest import sha256
from alps.store.plan import draft
from alps.store.verify import Verification, verify
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors


def parts(**changes):
    segmenter = ColorSegmenter()
    tiles = {"tile_size": 64, "tile_overlap": 16}
    arrays = {f"site/{i}": flat_colors(40, 40 + 8 * i, seed=i) for i in range(4)}
    return {
        "image_set": ArrayImages({**arrays, "site/broken": "zero bytes"}),
        "masks": AutoMasks(
            segmenter=segmenter, points_per_side=4, stability_score_thresh=0.5, ground=0, **tiles
        ),
        "features": SamFeatures(segmenter=segmenter, **tiles),
        "assign": Cluster(k=3, pca=2),
        "name": "tiny_pl",
        "shard_size": 2,
        **changes,
    }


def run(root, **changes):
    return label(root=root, config="k: 3\n", engine=LocalEngine(threads=1), **parts(**changes))


def check(root, **changes):
    made = parts(**changes)
    assign = made["assign"]
    settings = settings_of(
        *(made[name] for name in ("image_set", "masks", "features", "assign")),
        name=made["name"],
        shard_size=made["shard_size"],
    )
    return verify(root, draft(**settings), paint=assign.paint, categories=assign.categories())


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound") / "store"
    run(root)
    return root


@pytest.fixture
def root(tmp_path, sound):
    shutil.copytree(sound, tmp_path / "store")
    return tmp_path / "store"


def flip(data):
    return (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x10]) + data[len(data) // 2 + 1 :]
    )


DAMAGE = {
    "flip": flip,
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "gone": None,
}
KINDS = (
    *("store.json", "config.yaml", "plan.parquet", "categories.json", "manifest.json"),
    *("images/00001.parquet", "masks/00001.parquet", "features/00001.npy"),
    *("labels/00001.parquet", "clusters/centroids.npy", "clusters/counts.npy"),
    *("ann/train/site/1.png", "report.html", "statistics/classes.csv"),
)


def test_a_sound_store_is_left_alone(root):
    before = files(root)
    findings = check(root)
    assert findings.faults == findings.unknown_files == ()
    assert findings.files == len(before)
    assert findings.counts["images"] == 5
    assert findings.counts["failed"] == 1
    assert findings.counts["masks"] > 4
    assert files(root) == before


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, [*DAMAGE][i % len(DAMAGE)]) for i, name in enumerate(KINDS)),
        *((name, how) for name in ("store.json", "manifest.json") for how in ("flip", "cut")),
    ],
)
def test_a_damaged_file_is_named_and_mended(root, sound, name, how):
    if how == "gone":
        (root / name).unlink()
    else:
        (root / name).write_bytes(DAMAGE[how]((root / name).read_bytes()))
    findings = check(root)
    if (name, how) == ("manifest.json", "gone"):
        assert findings.faults == ()  # as after a kill
    elif name != "manifest.json" or how != "flip":  # one flip may fall into another file's hash
        assert name in {fault.file for fault in findings.faults}
    run(root)
    assert files(root) == files(sound)


@pytest.mark.parametrize("how", ["cut", "gone"])
@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith("parquet")])
def test_damage_is_found_without_a_manifest(root, sound, name, how):
    """As in a store that is not finished; what is inside has to tell."""
    (root / "manifest.json").unlink()
    if how == "gone":
        (root / name).unlink()
    else:
        (root / name).write_bytes(DAMAGE[how]((root / name).read_bytes()))
    findings = check(root)
    run(root)
    if (name, how) != ("labels/00001.parquet", "gone"):  # as after a kill
        assert name in {fault.file for fault in findings.faults}
    assert files(root) == files(sound)


def test_every_flip_is_found_while_there_is_a_manifest(root, sound):
    """Ten places in a table of masks, any bit."""
    rng = np.random.default_rng(0)
    path = root / "masks/00001.parquet"
    before = path.read_bytes()
    for place in rng.integers(0, len(before), 10):
        data = bytearray(before)
        data[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(data))
        assert [fault.file for fault in check(root).faults] == ["masks/00001.parquet"]
        assert not path.exists()
        shutil.rmtree(root)
        shutil.copytree(sound, root)


def rewrite(root, name, **columns):
    """A sound file with other contents, and no manifest that would tell."""
    (root / "manifest.json").unlink()
    table = pq.read_table(root / name)
    for column, change in columns.items():
        values = change(table[column].to_pylist())
        i = table.schema.get_field_index(column)
        field = table.schema.field(column)
        table = table.set_column(i, field, pa.chunked_array([pa.array(values, field.type)]))
    pq.write_table(table, root / name)


def other(values, new):
    return [new(values[0]), *values[1:]]


@pytest.mark.parametrize(
    ("name", "columns", "problem"),
    [
        ("images/00001.parquet", {"height": lambda v: other(v, lambda h: h + 1)}, "size of"),
        ("images/00001.parquet", {"n_masks": lambda v: other(v, lambda n: n + 1)}, "rows, but"),
        ("images/00001.parquet", {"covered": lambda v: other(v, lambda n: n - 1)}, "covered"),
        ("images/00001.parquet", {"status": lambda v: other(v, lambda _: "empty")}, "'empty' with"),
        ("images/00001.parquet", {"image_id": lambda v: other(v, lambda _: "x")}, "plan.parquet"),
        ("masks/00001.parquet", {"area": lambda v: other(v, lambda a: a + 1)}, "area of mask 0"),
        ("masks/00001.parquet", {"bbox": lambda v: other(v, lambda b: [0, *b[1:3], 1])}, "bbox of"),
        (
            "masks/00001.parquet",
            {"mask_id": lambda v: other(v, lambda _: 7)},
            "not numbered from 0",
        ),
        ("masks/00001.parquet", {"counts": lambda v: other(v, lambda c: c[:-1])}, "mask 0 of"),
        ("masks/00001.parquet", {"counts": lambda v: other(v, lambda c: b"")}, "run-length"),
        ("masks/00001.parquet", {"counts": lambda v: other(v, lambda c: b"\xff\0")}, "run-length"),
        ("masks/00001.parquet", {"image_id": lambda v: other(v, lambda _: "x")}, "other images"),
        ("labels/00001.parquet", {"category_id": lambda v: other(v, lambda _: 3)}, "expected -1"),
        ("labels/00001.parquet", {"mask_id": lambda v: v[::-1]}, "do not match the shard's masks"),
    ],
)
def test_tables_that_contradict_each_other_are_removed(root, name, columns, problem):
    rewrite(root, name, **columns)
    (fault, *_) = check(root).faults
    assert problem in fault.problem
    assert not (root / name).exists()
    assert not (root / "labels/00001.parquet").exists()


def test_a_map_that_is_not_what_the_labels_paint(root, sound):
    path = root / "ann/train/site/1.png"
    path.write_bytes((root / "ann/train/site/2.png").read_bytes())
    (root / "manifest.json").unlink()
    (fault,) = check(root).faults
    assert fault.file == "ann/train/site/1.png"
    assert "px, the image has" in fault.problem
    run(root)
    rewrite(root, "labels/00000.parquet", category_id=lambda v: [(i + 1) % 3 for i in v])
    assert {fault.problem for fault in check(root).faults} == {
        "differs from its masks, painted with their classes"
    }
    run(root)
    assert files(root) == files(sound)


def test_only_what_is_broken_is_made_anew(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.parquet")}
    (root / "masks/00001.parquet").write_bytes(b"")
    findings = check(root)
    assert findings.redo == {"masks": 1, "features": 1, "assign": 1}
    run(root)
    changed = {p.relative_to(root).as_posix() for p in before if p.stat().st_mtime_ns != before[p]}
    assert changed == {f"{f}/00001.parquet" for f in ("masks", "images", "labels")}


def test_an_unfinished_store_is_checked_and_finished(root, sound):
    for name in ("manifest.json", "report.html", "labels/00002.parquet", "features/00002.npy"):
        (root / name).unlink()
    (root / "masks/00000.parquet").write_bytes(b"half")
    findings = check(root)
    assert {f.file for f in findings.faults} == {"masks/00000.parquet", "features/00002.npy"}
    run(root)
    assert files(root) == files(sound)


def test_files_of_others_are_told_and_kept(root):
    (root / "notes.txt").write_text("years of work")
    (root / "masks/00099.parquet").write_bytes(b"?")
    findings = check(root)
    assert findings.faults == ()
    assert findings.unknown_files == ("masks/00099.parquet", "notes.txt")
    assert (root / "notes.txt").read_text() == "years of work"


def test_a_manifest_that_names_places_outside_reads_nothing_there(root, monkeypatch):
    outside, read = root / "../../outside", []
    outside.write_text("x")
    manifest = json.loads((root / "manifest.json").read_text())
    for name in ("../../outside", str(outside.resolve())):
        manifest["files"][name] = {"bytes": 1, "sha256": "0"}
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1))

    def watched(path):
        read.append(path.resolve())
        return sha256(path)

    monkeypatch.setattr("alps.store.verify.sha256", watched)
    assert check(root).faults == ()
    assert outside.resolve() not in read
    assert (root / "store.json").resolve() in read


def test_labels_of_others_are_kept_when_clusters_are_made_anew(root, sound):
    (root / "labels/notes.txt").write_text("years of work")
    (root / "clusters/centroids.npy").write_bytes(b"")
    assert check(root).unknown_files == ("labels/notes.txt",)
    assert [path.name for path in (root / "labels").iterdir()] == ["notes.txt"]
    run(root)
    (root / "labels/notes.txt").unlink()
    (root / "manifest.json").unlink()
    run(root)  # a manifest lists what lies there
    assert files(root) == files(sound)


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_of_the_description_may_flip(root, sound, bit):
    path = root / "store.json"
    data = bytearray(path.read_bytes())
    data[11 * bit + 3] ^= 1 << bit
    path.write_bytes(data)
    assert [fault.file for fault in check(root).faults] == ["store.json"]
    run(root)
    assert files(root) == files(sound)


def test_names_with_brackets_are_told_as_they_are(capsys):
    faults = tuple(Fault(f"ann/{name}.png", "broken") for name in ("scene[final]", "a[/b]", "a["))
    print_verification(Verification(faults, (), 3, {"images": 3, "masks": 0}, {}, {}))
    told = capsys.readouterr().out
    assert all(fault.file in told for fault in faults)


def test_pages_that_were_asked_for_are_named(root):
    (root / "evaluation.json").write_text("{}")
    findings = check(root)
    assert findings.lost() == {}
    assert [fault.file for fault in findings.faults] == ["manifest.json"]
    run(root)
    (root / "evaluation.json").write_text("{")
    assert check(root).lost() == {"evaluation.json": "evaluate=true"}
    assert not (root / "evaluation.json").exists()


def test_another_recipe_deletes_nothing(root):
    before = files(root)
    with pytest.raises(StoreMismatch, match=r"assign\.k is 3 in the store and 4 in this run"):
        check(root, assign=Cluster(k=4, pca=2))
    (root / "store.json").write_text("{")
    with pytest.raises(StoreMismatch, match=r"store.json is damaged .* with the command that made"):
        check(root, assign=Cluster(k=4, pca=2))
    shutil.copy(root / "config.yaml", root / "plan.parquet")
    (root / "store.json").write_bytes(before["store.json"])
    with pytest.raises(StoreError, match=r"plan.parquet is damaged .* set the shard_size"):
        check(root, shard_size=3)
    (root / "plan.parquet").write_bytes(before["plan.parquet"])
    assert check(root, shard_size=3).faults == ()  # a plan is fixed once
    assert files(root) == before


def test_nothing_to_verify(tmp_path):
    with pytest.raises(StoreError, match=r"no label store at .*, so there is nothing to verify"):
        check(tmp_path)


def test_a_file_that_cannot_be_removed(root, monkeypatch):
    (root / "report.html").write_bytes(b"")

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(
        StoreError, match=r"cannot delete the damaged file .*report.html.*: Permission denied"
    ):
        check(root)
    assert LabelStore(root).complete


def test_a_store_that_another_run_writes_is_left_alone(root):
    before = files(root)
    message = r"cannot verify the store: another run uses .* \(masks-00001\); wait"
    with (
        Claims(root) as other,
        other.exclusive("masks-00001"),
        pytest.raises(StoreError, match=message),
    ):
        check(root)
    assert files(root) == before
