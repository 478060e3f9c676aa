import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alps.errors import DatasetNotFound, LabelError
from alps.images.boxes.table import Table
from alps.protocols import ImageSet, InstanceSet
from alps.structures import rle
from tests.factories import create_image

HEADER = "image,x0,y0,x1,y1,category,ignore,score,text,note\n"
ROWS = (
    "a/one.png,10,20,30,50,ship,0,0.5,NA,x\n"
    "a/one.png,40,20,60.5,50,plane,1,,,\n"
    "two,0,0,96,64,plane,,,,\n"
)


@pytest.fixture
def root(tmp_path):
    for name in ("a/one", "two", "three"):
        create_image(tmp_path / f"images/{name}.png")
    (tmp_path / "boxes.csv").write_text(HEADER + ROWS)
    return tmp_path


def read(root, **more):
    images = Table(root=str(root), **more)
    return {r.image_id: images.read(r) for r in images.records()}


def test_a_row_is_a_box(root):
    images = Table(root=str(root), name="mine", split="val")
    assert isinstance(images, ImageSet)
    first, *_ = records = images.records()
    assert [r.image_id for r in records] == ["a/one", "three", "two"]
    assert (first.file_name, first.split) == ("images/a/one.png", "val")
    assert [c.name for c in images.categories()] == ["plane", "ship"]
    boxes = images.read(first).boxes
    np.testing.assert_array_equal(boxes.xyxy, [[10, 20, 30, 50], [40, 20, 60.5, 50]])
    assert boxes.category_id.tolist() == [1, 0]
    assert boxes.ignore.tolist() == [False, True]
    np.testing.assert_array_equal(boxes.score, [0.5, np.nan])
    assert boxes.text == ("NA", None)
    assert boxes.track_id.tolist() == [-1, -1]


def test_an_image_without_a_row_has_no_boxes(root):
    sample = read(root)["three"]
    assert len(sample.boxes) == 0
    assert sample.dropped == ()


def test_classes_are_named_in_the_order_of_their_ids(root):
    images = Table(root=str(root), classes=["ship"])
    sample = images.read(images.records()[0])
    assert [c.name for c in images.categories()] == ["ship"]
    assert sample.boxes.category_id.tolist() == [0]
    assert sample.dropped == ("boxes.csv row 2: category 'plane' is not one of the 1: ship",)


def test_parquet_gives_the_same_boxes(root):
    columns = {
        "image": ["a/one.png", "a/one.png", "two"],
        "x0": np.array([10, 40, 0], np.float32),
        "y0": [20, 20, 0],
        "x1": [30.0, 60.5, 96],
        "y1": np.array([50, 50, 64], np.uint8),
        "category": pa.array(["ship", "plane", "plane"]).dictionary_encode(),
        "ignore": [False, True, None],
        "score": [0.5, None, None],
        "text": ["NA", None, None],
    }
    pq.write_table(pa.table(columns), root / "boxes.parquet")
    other = Table(root=str(root), annotations="boxes.parquet")
    assert other.records() == Table(root=str(root)).records()
    samples = read(root)
    for record in other.records():
        a, b = other.read(record).boxes, samples[record.image_id].boxes
        for field in a.__slots__:
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_a_row_may_have_four_corners(root):
    (root / "boxes.csv").write_text(
        "image,x0,y0,x1,y1,x2,y2,x3,y3\n"
        "two,50,10,70,30,50,50,30,30\n"
        "two,10,20,30,50,,,,\n"
        "two,10,20,30,50,5,,,\n"
    )
    sample = read(root)["two"]
    np.testing.assert_array_equal(sample.boxes.xyxy, [[30, 10, 70, 50], [10, 20, 30, 50]])
    np.testing.assert_array_equal(sample.boxes.quad[0], [50, 10, 70, 30, 50, 50, 30, 30])
    assert sample.dropped == (
        "boxes.csv row 3: coordinates 10 20 30 50 5 nan nan nan are not all numbers",
    )
    assert [c.name for c in Table(root=str(root)).categories()] == ["object"]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("two,a,20,30,50,ship,0,,,", "coordinates nan 20 30 50 are not all numbers"),
        ("two,10,20,30,,ship,0,,,", "coordinates 10 20 30 nan are not all numbers"),
        ("two,30,20,10,50,ship,0,,,", "30 20 10 50 is inverted, expected x0 y0 x1 y1"),
        ("two,0.1,0.2,0.3,0.5,ship,0,,,", "0.1 0.2 0.3 0.5 look like fractions of the sides"),
        ("two,100,20,130,50,ship,0,,,", "100 20 130 50 lies outside the image of 96 by 64 px"),
        ("two,10,20,30,50,,0,,,", "category '' is not one of the 3"),
        ("two,10,20,30,50,ship,maybe,,,", "ignore 'maybe', expected 0 or 1"),
    ],
)
def test_an_unusable_row_is_reported_and_the_others_kept(root, row, line):
    (root / "boxes.csv").write_text(f"{HEADER}{row}\n{ROWS}")
    samples = read(root, classes=["ship", "plane", "car"])
    [told] = samples["two"].dropped
    assert told.startswith(f"boxes.csv row 1: {line}")
    assert [len(samples[name].boxes) for name in ("a/one", "two", "three")] == [2, 1, 0]


def test_a_truncated_table_loses_its_last_row(root, caplog):
    (root / "boxes.csv").write_text(HEADER + ROWS[:-8])
    with caplog.at_level(logging.WARNING):
        samples = read(root)
    assert "skipped 1 of 3 rows of" in caplog.text
    assert "expected 10 columns (first: line 4 has " in caplog.text
    assert [len(samples[name].boxes) for name in ("a/one", "two")] == [2, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,xmin,ymin,xmax,ymax\n", "has no x0 and no y0 and no x1 and no y1: its columns are"),
        (
            "x0,y0,x1,y1\n",
            "has no image: its columns are 'x0' 'y0' 'x1' 'y1', expected image x0 y0 x1 y1",
        ),
        ("", r"cannot read .*boxes\.csv: .*[Ee]mpty"),
    ],
)
def test_other_tables_are_refused(root, text, message):
    (root / "boxes.csv").write_text(text)
    with pytest.raises(LabelError, match=message):
        read(root)


def test_a_damaged_parquet_file_is_refused(root):
    (root / "boxes.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LabelError, match=r"cannot read .*boxes\.parquet: "):
        read(root, annotations="boxes.parquet")


def test_some_rows_may_have_true_masks(root, caplog):
    dense = np.zeros((1, 64, 96), bool)
    dense[0, 20:40, 10:25] = True
    [counts], [short] = rle.encode(dense), rle.encode(dense[:, :60])
    rows = [
        "image,x0,y0,x1,y1,counts",
        "two,0,0,96,64,",
        f"two,10,20,30,50,{counts.decode()}",
        f"two,50,20,30,50,{counts.decode()}",  # inverted
        f"two,10,20,30,50,{short.decode()}",
        "two,10,20,30,50,a mask",
    ]
    (root / "boxes.csv").write_text("\n".join(rows))
    images = Table(root=str(root))
    assert isinstance(images, InstanceSet)
    assert images.has_instances
    record = images.records()[-1]
    sample = images.read(record)
    assert sample.boxes.object_id.tolist() == [0, 1, 3, 4]
    masks = images.read_instances(record, sample.boxes[np.array([3, 1, 0, 2])], sample.size)
    assert masks.boxes.object_id.tolist() == [1]
    np.testing.assert_array_equal(masks.to_array(), dense)
    assert caplog.messages == [
        "skipped a ground-truth mask: boxes.csv row 5: its counts are not a run-length code, or "
        "are "
        "truncated",
        "skipped a ground-truth mask: boxes.csv row 4: its counts hold 5760 pixels, the image "
        "has 64 x 96 "
        "= 6144",
    ]


def test_many_invalid_masks_of_an_image_are_counted(root, caplog):
    rows = ["image,x0,y0,x1,y1,counts", *["two,10,20,30,50,x"] * 9]
    (root / "boxes.csv").write_text("\n".join(rows))
    images = Table(root=str(root))
    record = images.records()[-1]
    sample = images.read(record)
    assert len(images.read_instances(record, sample.boxes, sample.size)) == 0
    assert len(caplog.messages) == 6
    assert caplog.messages[-1] == "skipped 4 more ground-truth masks of this image"


def test_a_true_mask_changes_no_box(root):
    before = Table(root=str(root)).records()
    assert not Table(root=str(root)).has_instances
    text = (HEADER + ROWS).replace(",note", ",counts")
    (root / "boxes.csv").write_text(text)
    assert Table(root=str(root)).records() == before


def test_the_error_names_what_is_missing(root):
    with pytest.raises(
        DatasetNotFound, match=r"no b\.csv under .*: found 2 entries \(boxes\.csv, i"
    ):
        read(root, annotations="b.csv")
    (root / "boxes.csv").write_text(HEADER + ROWS.replace("two", "four"))
    assert len(read(root)) == 3
    missing, bare = map(str, Table(root=str(root)).findings())
    assert missing.startswith(
        "1 of 2 images in boxes.csv are not under images/ (first: four); add them, or correct"
    )
    assert bare.startswith("2 of 3 images have no annotation (first: images/three.")
    (root / "boxes.csv").write_text(HEADER + ROWS.replace("two", "four").replace("a/one", "one"))
    with pytest.raises(
        LabelError,
        match=r"the first image is 'four' in the table and 'a/one' in the folder; write paths",
    ):
        read(root)


def test_a_moved_box_changes_the_record(root):
    before = Table(root=str(root)).records()
    (root / "boxes.csv").write_text(HEADER + ROWS.replace(",20,30,", ",21,30,"))
    after = Table(root=str(root)).records()
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, True, True]
