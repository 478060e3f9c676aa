import shutil

import pytest

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.boxes.fair1m import CLASSES, Fair1m, parse
from alps.protocols import ImageSet
from tests.box_formats import create_fair1m
from tests.images.boxes.boxed import around, check_corners, check_objects, read_all, splits

PUBLISHED = """<?xml version="1.0" encoding="utf-8"?>
<annotation>
  <source><filename>0.tif</filename><origin>GF2/GF3</origin></source>
  <research>
    <version>1.0</version><provider>FAIR1M</provider><author>Cyber</author>
    <pluginname>FAIR1M</pluginname><pluginclass>object detection</pluginclass>
    <time>2021-03</time>
  </research>
  <size><width>1000</width><height>1000</height><depth>3</depth></size>
  <objects>
    <object>
      <coordinate>{unit}</coordinate>
      <type>rectangle</type>
      <description>None</description>
      <possibleresult><name>{name}</name></possibleresult>
      <points>
        <point>40.000000,10.000000</point>
        <point>70.000000,40.000000</point>
        <point>60.000000, 50.000000</point>
        <point>30.000000,20.000000</point>
        {last}
      </points>
    </object>
  </objects>
</annotation>"""
LAST = "<point>40.000000,10.000000</point>"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("fair1m")
    return root, create_fair1m(root)


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "fair1m")


def names(images):
    """As the XML files spell them."""
    return [c.name.replace("-Cargo-Ship", " Cargo Ship") for c in images.categories()]


def test_images_splits_and_boxes(published):
    images = Fair1m(root=str(published[0]))
    assert isinstance(images, ImageSet)
    expected = {"train/part1/0": "train", "train/part2/0": "train", "validation/0": "val"}
    assert splits(images) == expected
    assert (len(CLASSES), CLASSES[14], CLASSES[36]) == (37, "Cargo-Truck", "Warship")
    for image_id, sample in read_all(images).items():
        check_objects(
            sample, [around(o) for o in published[1][image_id]], names(images), ignored=False
        )
        check_corners(sample, published[1][image_id])


@pytest.mark.parametrize(
    ("written", "category"),
    [
        ("Baseball Field", "Baseball-Field"),
        ("other-airplane", "other-airplane"),
        ("Boeing 737", "Boeing737"),
        ("Tram", "Tram"),
    ],
)
def test_the_published_layout_of_a_file(tmp_path, written, category):
    for last in (LAST, ""):  # closed or not
        (tmp_path / "0.xml").write_text(PUBLISHED.format(unit="pixel", name=written, last=last))
        ((item,), unparsed, _) = parse(tmp_path / "0.xml")
        assert (item.category, item.where, item.ignore) == (category, "object 1", False)
        assert item.points == [40, 10, 70, 40, 60, 50, 30, 20]
        assert unparsed == []


def test_unusable_objects_are_reported_and_the_others_kept(root):
    path = root / "train/part1/labelXml/0.xml"
    text = path.read_text()
    text = text.replace("<coordinate>pixel", "<coordinate>geodegree", 1)
    text = text.replace("<name>Dry Cargo Ship", "<name>Canoe", 1)
    before, marker, after = text.rpartition("<point>")
    path.write_text(before + marker + "1,2</point><point>" + after)
    sample = read_all(Fair1m(root=str(root)))["train/part1/0"]
    assert len(sample.boxes) == 1
    assert sample.dropped == (
        "0.xml object 1: coordinates in geodegree, expected pixel",
        "0.xml object 2: category 'Canoe' is not one of the 37: A220, A321, A330, A350, ARJ21, "
        "Baseball-Field, Basketball-Court, Boeing737, …",
        "0.xml object 4: 12 coordinates, expected 4 (x0 y0 x1 y1) or 8 (four corners)",
    )


def test_the_folders_may_be_at_other_levels(root):
    (root / "train/part2/images").rename(root / "train/part2/images-1")
    (root / "train/part2/labelXml").rename(root / "train/part2/labelXmls")
    shutil.copytree(root / "train/part2/images-1", root / "train/part2/images-2")
    (root / "train/part2/images-2/0.tif").rename(root / "train/part2/images-2/9.tif")
    shutil.copy(root / "train/part2/labelXmls/0.xml", root / "train/part2/labelXmls/9.xml")
    (root / "validation").rename(root / "val")
    expected = ["train/part1/0", "train/part2/0", "train/part2/9", "val/0"]
    assert list(splits(Fair1m(root=str(root)))) == expected
    assert splits(Fair1m(root=str(root / "val"))) == {"0": "train"}


def test_a_truncated_annotation_file_costs_one_image(root):
    path = root / "train/part2/labelXml/0.xml"
    path.write_text(path.read_text()[:500])
    images = Fair1m(root=str(root))
    first, cut, last = images.records()
    with pytest.raises(
        ImageError, match=rf"{path} is not a complete XML file: .*; it may be truncated"
    ):
        images.read(cut)
    assert len(images.read(first).boxes) == len(images.read(last).boxes) == 4


def test_a_moved_box_changes_the_record(root):
    before = Fair1m(root=str(root)).records()
    path = root / "validation/labelXml/0.xml"
    path.write_text(path.read_text().replace("</point>", "5</point>", 1))
    after = Fair1m(root=str(root)).records()
    assert [b.image_id for b, a in zip(before, after, strict=True) if b != a] == ["validation/0"]


def test_the_error_names_what_is_missing(root, tmp_path):
    with pytest.raises(
        DatasetNotFound,
        match=rf"no FAIR1M under {tmp_path / 'no'}: found no such folder, looked for images/ and "
        r"labelXml/ there and in train/part1/, train/part2/ and validation/; download it from "
        r"https://www.gaofen-challenge.com/benchmark, or set dataset.root to its folder",
    ):
        Fair1m(root=str(tmp_path / "no")).records()
    (root / "validation/labelXml/0.xml").rename(root / "validation/labelXml/1.xml")
    with pytest.raises(
        LabelError, match=r"1 of 3 images have no label \(first: validation/images/0.tif\)"
    ):
        Fair1m(root=str(root)).records()
