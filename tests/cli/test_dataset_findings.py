"""Inconsistencies of a dataset, from label.py to the store and its report."""

import json

import pytest

from alps.assign.category import ByCategory
from alps.errors import ConfigError, StoreError
from alps.images.boxes.coco import Coco
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label as run_label
from alps.labelling.pipeline import settings_of
from alps.masks.box import BoxMasks
from alps.store.label_store import LabelStore
from alps.store.plan import draft
from alps.store.verify import verify
from tests.box_formats import create_coco
from tests.fakes import BoxSegmenter


def edit(root, change):
    file = json.loads((root / "instances.json").read_text())
    change(file)
    (root / "instances.json").write_text(json.dumps(file))


@pytest.fixture
def coco(tmp_path):
    """A file with an annotation of no image, a category without objects and a resized image."""
    create_coco(tmp_path / "coco")

    def change(file):
        file["annotations"].append(
            {"id": 7, "image_id": 99, "category_id": 3, "bbox": [1, 1, 9, 9]}
        )
        file["categories"].append({"id": 9, "name": "house"})
        file["images"][0].update(width=256, height=192)

    edit(tmp_path / "coco", change)
    return tmp_path / "coco"


def parts(root):
    images = Coco(root=str(root))
    return {
        "image_set": images,
        "masks": BoxMasks(segmenter=BoxSegmenter()),
        "features": None,
        "assign": ByCategory(images=images),
    }


def run(coco, store, **options):
    engine = LocalEngine(threads=1)
    return run_label(**parts(coco), engine=engine, root=store, name="seg", config="", **options)[0]


ORPHAN = "1 of 9 annotations belong to no image (first: annotation 7 has image_id 99); "


def told(caplog):
    lines = [m for m in caplog.messages if m.startswith("coco: ")]
    caplog.clear()
    return lines


def test_findings_are_told_once_a_run_kept_and_shown(coco, tmp_path, caplog):
    store = run(coco, tmp_path / "store")
    lines = told(caplog)
    assert lines[0].startswith(f"coco: {ORPHAN}")
    assert [f.kind for f in store.findings()] == [
        "orphan_annotations",
        "other_size",
        "unused_classes",
    ]
    assert lines == [f"coco: {finding}" for finding in store.findings()]
    page = (store.root / "report.html").read_text()
    assert "Inconsistencies in the dataset" in page
    assert ORPHAN[:-2] in page
    manifest = json.loads((store.root / "manifest.json").read_text())
    assert "findings.json" in manifest["files"]
    assert str(tmp_path) not in (store.root / "findings.json").read_text()
    statuses = {s.image_id: s for s in store.images()}
    assert (statuses["000000"].status, statuses["000000"].dropped) == ("empty", 4)
    run(coco, store.root)  # there is nothing to do
    assert told(caplog) == []


def test_many_boxes_of_one_image_are_dropped_with_one_line(coco, tmp_path, caplog):
    run(coco, tmp_path / "store")
    [line] = [m for m in caplog.messages if m.startswith("dropped")]
    assert line == (
        "dropped 4 boxes of 000000: instances.json 000000.jpg is 128 x 96 px and its annotations "
        "are for an image of 256 x 192 px, so the boxes do not fit"
    )


def test_strict_refuses_before_any_mask_is_made(coco, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^strict=true, and coco has 3 findings: 1 of 9"
    ) as error:
        run(coco, tmp_path / "store", strict=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store/masks").exists()

    def mend(file):
        file["annotations"].pop()
        file["categories"].pop()
        file["images"][0].update(width=128, height=96)

    edit(coco, mend)
    store = run(coco, tmp_path / "store", strict=True)
    assert store.findings() == []
    assert "Inconsistencies in the dataset" not in (store.root / "report.html").read_text()
    run(coco, tmp_path / "store", strict=True)


def test_strict_looks_again_at_a_finished_store(coco, tmp_path):
    edit(coco, lambda file: file["annotations"].pop())
    run(coco, tmp_path / "store")
    with pytest.raises(ConfigError, match=r"strict=true, and coco has 2 findings: "):
        run(coco, tmp_path / "store", strict=True)


def test_findings_are_no_part_of_a_fingerprint_and_verify_mends_them(coco, tmp_path):
    store = run(coco, tmp_path / "store")
    names = ("findings.json", "manifest.json")
    before = {name: (store.root / name).read_bytes() for name in names}
    (store.root / "findings.json").write_text("[7]")
    with pytest.raises(
        StoreError, match=r"cannot read .*findings\.json: it is not a list of findings: "
    ):
        store.findings()
    given = parts(coco)
    settings = settings_of(**given, name="seg", shard_size=None)
    assign = given["assign"]
    found = verify(
        store.root, draft(**settings), paint=assign.paint, categories=assign.categories()
    )
    assert [fault.file for fault in found.faults] == ["findings.json"]
    store = run(coco, store.root)
    assert {name: (store.root / name).read_bytes() for name in before} == before


def test_redone_masks_have_findings_of_their_own(coco, tmp_path, caplog):
    run(coco, tmp_path / "store")
    edit(coco, lambda file: file["categories"].pop())
    told(caplog)
    store = run(coco, tmp_path / "store", overwrite="masks")
    assert [f.kind for f in store.findings()] == ["orphan_annotations", "other_size"]
    assert len(told(caplog)) == 2


def test_the_word_strict(label, coco):
    words = ("recipe=samrs", "+dataset=coco", f"dataset.root={coco}")
    done = label(*words, "strict=true")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: strict=true, and coco has 3 findings: {ORPHAN}")
    done = label(*words, "strict=maybe")
    assert done.stderr == "error: strict=maybe: expected true or false\n"


def test_an_old_store_has_none(coco, tmp_path):
    store = run(coco, tmp_path / "store")
    (store.root / "findings.json").unlink()
    assert LabelStore(store.root).findings() is None
