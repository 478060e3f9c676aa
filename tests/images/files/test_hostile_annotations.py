"""Annotations made to crash, hang or fill a reader: XML, tables, labelTxt, COCO."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alps.errors import AlpsError, ImageError, LabelError
from alps.images.boxes.coco import Coco
from alps.images.boxes.dota import Dota
from alps.images.boxes.table import Table
from alps.images.boxes.voc import Voc
from alps.images.files.box_rows import read_rows
from alps.images.files.coco_masks import encode_segmentation
from alps.images.files.fields import read_text
from alps.images.files.limits import MAX_DATASET_BYTES, MAX_IMAGE_BYTES
from alps.images.files.safe_pickle import load_plain
from alps.images.files.xml_file import parse_xml, read_xml
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.rle import encode, find_problem
from tests.box_formats import create_coco, create_dota, create_voc
from tests.factories import create_image


def entity(declaration, use="&a;", encoding="utf-8"):
    head = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE annotation [{declaration}]>'
    return f"{head}<annotation><x>{use}</x></annotation>".encode(encoding)


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
ENTITIES = {
    "billion laughs": entity(f'<!ENTITY a0 "ha">{LAUGHS}', "&a11;"),
    "a file": entity('<!ENTITY a SYSTEM "file:///etc/passwd">'),
    "a file as a parameter": entity('<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;', ""),
    "in UTF-16": entity('<!ENTITY a "ha">', encoding="utf-16"),
    "of a file elsewhere": b'<!DOCTYPE annotation SYSTEM "a.dtd"><annotation>&a;</annotation>',
}


@pytest.mark.parametrize("name", ENTITIES)
def test_entities_are_refused(name, tmp_path):
    create_voc(tmp_path, 1)
    (record,) = (images := Voc(root=str(tmp_path), classes=["person"])).records()
    (tmp_path / "Annotations/000000.xml").write_bytes(ENTITIES[name])
    with pytest.raises(ImageError, match=r"000000.xml .*it declares an entity \(.*not expanded"):
        images.read(record)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_declared_attributes_are_refused(tmp_path, encoding):
    """Their default is copied into every element: 100 kB times 20,000."""
    declared = f"<!DOCTYPE annotation [<!ATTLIST x a CDATA '{'y' * 100_000}'>]>"
    file = tmp_path / "a.xml"
    file.write_text(
        f"<?xml version='1.0' encoding='{encoding}'?>{declared}"
        f"<annotation>{'<x/>' * 20_000}</annotation>",
        encoding=encoding,
    )
    with pytest.raises(ImageError, match=r"a.xml .*it declares an attribute \(x a\).*not read"):
        read_xml(file, "annotation")


def test_predefined_entities_of_xml_are_read():
    assert parse_xml(b"<a b='&lt;'>&amp;&gt;&quot;&apos;&#228;</a>").text == "&>\"'ä"


def sparse(path, size):
    """A file that says it has so many bytes, and takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("read", "limit"),
    [
        (lambda path: read_xml(path, "annotation"), MAX_IMAGE_BYTES),
        (load_plain, MAX_IMAGE_BYTES),
        (read_text, MAX_IMAGE_BYTES),
        (lambda path: Coco(root=str(path.parent), annotations="a.x").records(), MAX_DATASET_BYTES),
        (lambda path: Table(root=str(path.parent), annotations="a.x").records(), MAX_DATASET_BYTES),
    ],
    ids=["XML", "pickle", "text", "COCO", "CSV"],
)
def test_oversized_annotations_are_not_read(tmp_path, read, limit):
    create_image(tmp_path / "images/a.png", (8, 8))
    path = sparse(tmp_path / "a.x", limit + 1)
    message = (
        rf"cannot read .*a\.x: .*it has {limit + 1} bytes, the limit .* is {limit}; check that"
    )
    with pytest.raises(AlpsError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_annotations_of_the_largest_published_size_are_read():
    coco, lvis, xml = 448 << 20, 1_100 << 20, 30 << 20
    assert max(coco, lvis) < MAX_DATASET_BYTES
    assert xml < MAX_IMAGE_BYTES


def table(path, rows, word):
    """A Parquet file of few bytes: every row is the same."""
    same = np.zeros(rows, np.int32)
    words = {"image": word, "category": "tree"}
    texts = {name: pa.DictionaryArray.from_arrays(same, [text]) for name, text in words.items()}
    corners = dict.fromkeys(("x0", "y0", "x1", "y1"), pa.array(same))
    pq.write_table(pa.table({**corners, **texts}), path, store_schema=False)


@pytest.mark.parametrize(
    ("rows", "word", "message"),
    [
        (
            200_000,
            "a.png",
            "it unpacks to 200000 rows and [0-9]+ bytes, the limits are 100000",
        ),
        (
            3000,
            "x" * 10**6,
            "it unpacks to 3000 rows and 30000[0-9]+ bytes, .* and 2147483648; check that",
        ),
    ],
)
def test_a_decompression_bomb_as_table_is_refused(tmp_path, rows, word, message):
    table(tmp_path / "a.parquet", rows, word)
    assert (tmp_path / "a.parquet").stat().st_size < 2 << 20
    with pytest.raises(LabelError, match=rf"cannot read .*a\.parquet: .*{message}"):
        read_rows(tmp_path / "a.parquet", ["image"])


def test_a_frequently_repeated_value_is_accepted(tmp_path):
    table(tmp_path / "a.parquet", 2000, "x" * 1000)
    rows = read_rows(tmp_path / "a.parquet", ["image"])
    assert rows == [rows[0]] * 2000
    corners = dict.fromkeys(("x0", "y0", "x1", "y1"), "0")
    assert rows[0] == {**corners, "image": "x" * 1000, "category": "tree"}


def test_deeply_nested_elements_are_refused(tmp_path):
    create_voc(tmp_path, 1)
    (record,) = (images := Voc(root=str(tmp_path), classes=["person"])).records()
    deep = b"<annotation>" + b"<object>" * 100_000 + b"</object>" * 100_000 + b"</annotation>"
    (tmp_path / "Annotations/000000.xml").write_bytes(deep)
    assert "object 1: no <bndbox>" in images.read(record).dropped[0]


def test_a_line_of_ten_megabytes_is_handled(tmp_path):
    create_dota(tmp_path, ["train/P0000"])
    (record,) = (images := Dota(root=str(tmp_path))).records()
    lines = ["1 " * 5_000_000, f"0 0 9 0 9 9 0 9 {'x' * 10_000_000} 0", f"{'9' * 10_000_000} " * 2]
    (tmp_path / "train/labelTxt-v2.0/P0000.txt").write_text("\n".join(lines))
    sample = images.read(record)
    assert len(sample.boxes) == 0
    assert len(sample.dropped) == 3
    assert max(map(len, sample.dropped)) < 300


@pytest.fixture
def coco(tmp_path):
    """Write a change of a COCO file; returns its reader."""
    create_coco(tmp_path, 1)
    whole = (tmp_path / "instances.json").read_text()

    def write(change):
        file = json.loads(whole)
        text = change(file)
        (tmp_path / "instances.json").write_text(text if text else json.dumps(file))
        return Coco(root=str(tmp_path))

    return write


def put(key, name, value):
    return lambda file: file[key][0].update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: "[" * 100_000, "cannot read .*: it is nested too deeply"),
        (lambda file: '{"a":' * 100_000, "cannot read .*: it is nested too deeply"),
        (lambda file: "1" * 5000, "cannot read .*: Exceeds the limit"),
        (lambda file: "[]", "is not a COCO file: it has no images and no annotations and no cat"),
        (lambda file: "7", "is not a COCO file"),
        (lambda file: file.update(images={}), "is not a COCO file: it has no images"),
        (lambda file: file.update(images=[7]), r"images\[0\] is not an object"),
        (lambda file: file["images"][0].clear(), r"images\[0\] has no id and no file_name"),
        (put("images", "id", float("nan")), r"id of images\[0\] is 'nan', expected an integer"),
        (put("categories", "id", float("inf")), r"id of categories\[0\] is 'inf', expected"),
        (put("images", "file_name", "a\0.jpg"), r"file_name of images\[0\] is 'a\\x00.jpg', exp"),
        (put("images", "file_name", "a\nerror: .jpg"), r"file_name of images\[0\] is 'a\\n"),
        (put("images", "file_name", ""), r"file_name of images\[0\] is '', expected text"),
        (put("images", "file_name", "../../x.jpg"), r"image_id '../../x' is not a plain relative"),
        (put("images", "file_name", "/etc/x.jpg"), r"image_id '/etc/x' is not a plain relative"),
        (put("categories", "name", None), r"name of categories\[0\] is 'None', expected text"),
    ],
)
def test_a_hostile_coco_file_is_refused(coco, change, message):
    with pytest.raises(AlpsError, match=message) as caught:
        images = coco(change)
        images.records()
        images.categories()
    assert "\n" not in str(caught.value)


def test_a_name_that_cannot_be_stored_is_skipped(coco, caplog):
    def add(file):
        file["images"].append({"id": 77, "file_name": f"{'x' * 400}.jpg"})
        file["images"].append({"id": 78, "file_name": "../x.jpg"})

    assert len(coco(add).records()) == 1
    assert "2 of 3 images in" in caplog.text
    assert "their names cannot be stored (first: image_id 'xxxx" in caplog.text


def test_an_overlong_name_is_refused(coco):
    with pytest.raises(
        LabelError, match=r"file_name of images\[0\] is 'x+', expected text of at most 500"
    ):
        coco(put("images", "file_name", "x" * 5000)).records()


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e400", "1" * 400, "null", '"a"']
)
def test_a_box_of_nan_is_dropped(coco, value):
    def change(file):
        file["annotations"][0]["bbox"] = [1, 2, 987654321, 4]
        return json.dumps(file).replace("987654321", value)

    (record,) = (images := coco(change)).records()
    (line,) = images.read(record).dropped
    assert "annotation 100: " in line
    assert len(line) < 300


@pytest.mark.parametrize("score", ["NaN", "1e400", "[]", '"x"'])
def test_an_invalid_score_is_unknown(coco, score):
    def change(file):
        file["annotations"][0]["score"] = 987654321
        return json.dumps(file).replace("987654321", score)

    (record,) = (images := coco(change)).records()
    assert np.isnan(images.read(record).boxes.score[0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "far outside the image"),
        ([[0, 0, float("nan"), 0, 3, 3]], "not a number"),
        ([[0, 0, 10**400, 0, 3, 3]], "far outside"),
        ([[1, 2, 3, 4]], "a polygon has 4 numbers"),
        ([["a"] * 6], "not a list of numbers"),
        (["abcdef"], "not a list of numbers"),
        ({"counts": [1, 10**12]}, "not integers"),
        ({"counts": [-1, 49]}, "not integers"),
        ({"counts": [1, 2]}, "contain 3 pixels, not 6 x 8"),
        ({"counts": "\xff"}, "not a run-length code"),
        ({"counts": "PPPPPPPPPP"}, "truncated"),
        ({"counts": "oooooooooo1"}, "longer than any image"),
        ({"counts": "1"}, "hold 1 pixels, the image has 6 x 8"),
        ({"counts": None}, "expected polygons"),
        (7, "expected polygons"),
    ],
)
def test_a_hostile_segmentation_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        encode_segmentation(shape, (6, 8))


def test_a_hostile_segmentation_is_logged(coco, caplog):
    (record,) = (
        images := coco(put("annotations", "segmentation", [[0, 0, 1e9, 0, 9, 9]]))
    ).records()
    boxes = images.read(record).boxes
    images.read_instances(record, boxes, (96, 128))
    assert caplog.messages[0].startswith(
        "skipped a ground-truth mask: instances.json annotation 100: "
    )


def test_valid_counts_have_no_problem():
    masks = np.random.default_rng(0).random((20, 30, 40)) < 0.3
    masks[0], masks[1] = False, True
    for counts in encode(masks):
        assert find_problem(counts, (30, 40)) == ""
        assert find_problem(counts, (30, 41))


@pytest.mark.parametrize("value", [1e39, 1e300, -1e39])
def test_boxes_with_extreme_corners_are_dropped(value):
    quad = [0, 0, value, 0, 9, 9, 0, 9]
    boxes, problems = check_boxes([Annotation("line 1", "a", quad)], {"a": 0}, (20, 20))
    assert len(boxes) == 0
    assert "line 1: " in problems[0]
