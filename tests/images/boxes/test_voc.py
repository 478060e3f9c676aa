import shutil

import pytest

from alps.errors import ConfigError, DatasetNotFound, ImageError, LabelError
from alps.images.boxes.voc import Voc, parse
from alps.protocols import ImageSet
from tests.box_formats import create_voc
from tests.factories import create_image
from tests.images.boxes.boxed import check_objects, read_all, splits


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    return root, create_voc(root)


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "voc")


def test_images_splits_and_boxes(published):
    images = Voc(root=str(published[0]))
    assert isinstance(images, ImageSet)
    assert splits(images) == {"000000": "train", "000001": "train", "000002": "val"}
    assert [category.name for category in images.categories()] == ["chair", "person"]
    for image_id, sample in read_all(images).items():
        check_objects(sample, published[1][image_id], ["chair", "person"])


@pytest.mark.parametrize(
    ("replaced", "message"),
    [("", "has 2 classes: chair, person; set dataset.classes="), ("chair", "has 1 class: person;")],
)
def test_counted_classes_are_logged(root, caplog, replaced, message):
    for path in (root / "Annotations").glob("*.xml"):
        path.write_text(
            path.read_text().replace(replaced or "chair", "person" if replaced else "chair")
        )
    with caplog.at_level("INFO"):
        Voc(root=str(root)).categories()
    assert message in caplog.text


def test_the_published_excerpt_is_read_as_pixel_edges(tmp_path):
    (tmp_path / "000005.xml").write_text(
        """<annotation>
        <folder>VOC2007</folder>
        <filename>000005.jpg</filename>
        <source><database>The VOC2007 Database</database><flickrid>325991873</flickrid></source>
        <owner><flickrid>archintent louisville</flickrid><name>?</name></owner>
        <size><width>500</width><height>375</height><depth>3</depth></size>
        <segmented>0</segmented>
        <object>
            <name>chair</name><pose>Rear</pose><truncated>0</truncated><difficult>0</difficult>
            <bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox>
        </object>
        <object>
            <name>chair</name><pose>Unspecified</pose>
            <truncated>1</truncated><difficult>1</difficult>
            <bndbox><xmin>5</xmin><ymin>244</ymin><xmax>67</xmax><ymax>374</ymax></bndbox>
        </object>
        </annotation>"""
    )
    (chair, hidden), unparsed, size = parse(tmp_path / "000005.xml")
    assert (chair.where, chair.category, chair.ignore) == ("object 1", "chair", False)
    assert chair.points == (262, 210, 324, 339)
    assert (hidden.points, hidden.ignore) == ((4, 243, 67, 374), True)
    assert unparsed == []
    assert size == (375, 500)


def test_named_classes_keep_their_order(root):
    images = Voc(root=str(root), classes=["person", "dog"])
    assert [category.name for category in images.categories()] == ["person", "dog"]
    sample = read_all(images)["000000"]
    assert sample.boxes.object_id.tolist() == [0, 2]
    assert sample.dropped == tuple(
        f"000000.xml object {i}: category 'chair' is not one of the 2: person, dog" for i in (2, 4)
    )
    for classes in (["dog", "dog"], "dog"):
        with pytest.raises(ConfigError, match=r"dataset.classes=.*dog.*: expected a list of dist"):
            Voc(root=str(root), classes=classes)


def test_images_in_no_list_are_skipped_unless_there_are_no_lists(root):
    create_image(root / "JPEGImages/extra.jpg")
    assert "extra" not in splits(Voc(root=str(root)))
    (root / "JPEGImages/000000.jpg").unlink()
    images = Voc(root=str(root))
    assert list(splits(images)) == ["000001", "000002"]
    orphans, missing = map(str, images.findings())
    assert orphans.startswith(
        "1 of 3 annotation files belong to no image (first: Annotations/000000.xml); add the images"
    )
    assert missing.startswith(
        "1 of 3 images in the split lists are missing (first: 000000); add them, or remove"
    )
    (root / "JPEGImages/extra.jpg").unlink()
    shutil.rmtree(root / "ImageSets")
    assert splits(Voc(root=str(root))) == {"000001": "train", "000002": "train"}


def test_lists_of_other_images_are_an_error(root):
    for path in (root / "ImageSets/Main").iterdir():
        path.write_text("2008_000001\n")
    with pytest.raises(
        DatasetNotFound,
        match=r"none of the 3 images under .* among the 1 names in the split lists \(first: 2008_",
    ):
        Voc(root=str(root)).records()


def test_a_truncated_annotation_file_costs_one_image(root):
    path = root / "Annotations/000001.xml"
    path.write_text(path.read_text()[:200])
    images = Voc(root=str(root))
    first, cut, last = images.records()
    with pytest.raises(
        ImageError,
        match=rf"{path} is not a complete XML file: .*: line \d+, column \d+; it may be truncated",
    ):
        images.read(cut)
    assert len(images.read(first).boxes) == len(images.read(last).boxes) == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a complete XML file: no element found"),
        ("<HRSC_Image/>", "has another format: <HRSC_Image>, expected <annotation>"),
        (
            '<?xml version="1.0" encoding="nosuch"?><annotation/>',
            "is not XML: it declares the encoding nosuch, which cannot be read; save it as UTF-8",
        ),
        (
            "<annotation>\n<object>A & B",
            r"it has an unescaped & in line 2 \('.*A & B'\); write &amp; in",
        ),
    ],
)
def test_files_of_another_format_are_refused(tmp_path, text, why):
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(ImageError, match=why):
        parse(tmp_path / "x.xml")


def test_entities_are_not_expanded(tmp_path):
    path = tmp_path / "x.xml"
    names = [f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9)]
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "ha">{"".join(names)}]><annotation>&e9;</annotation>'
    (tmp_path / "secret").write_text("secret")
    thief = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{tmp_path}/secret">]><annotation>&e;</annotation>'
    for text in (bomb, thief):
        path.write_text(text)
        with pytest.raises(ImageError, match=r"x.xml is not a complete XML file"):
            parse(path)


def test_unusable_objects_are_reported_and_the_others_kept(root):
    path = root / "Annotations/000000.xml"
    box = "<bndbox><xmin>30</xmin><ymin>10</ymin><xmax>20</xmax><ymax>{}</ymax></bndbox>"
    items = "".join(
        f"<object><name>chair</name>{b}</object>" for b in ("", box.format(40), box.format("?"))
    )
    path.write_text(path.read_text().replace("</annotation>", f"{items}</annotation>"))
    sample = read_all(Voc(root=str(root)))["000000"]
    assert len(sample.boxes) == 4
    assert sample.dropped == (
        "000000.xml object 5: no <bndbox>, expected one with xmin ymin xmax ymax",
        "000000.xml object 6: 29 9 20 40 is inverted, expected x0 y0 x1 y1 with x0 < x1, y0 < y1",
        "000000.xml object 7: coordinates 29 9 20 nan are not all numbers",
    )


def test_a_moved_box_changes_the_record(root):
    before = Voc(root=str(root)).records()
    path = root / "Annotations/000001.xml"
    path.write_text(path.read_text().replace("</xmax>", "0</xmax>", 1))
    after = Voc(root=str(root)).records()
    assert [b.image_id for b, a in zip(before, after, strict=True) if b != a] == ["000001"]


def test_the_error_names_what_is_missing(root, tmp_path):
    with pytest.raises(
        DatasetNotFound,
        match=rf"no Pascal VOC under {tmp_path / 'no'}: found no such folder, looked for "
        "JPEGImages/ and Annotations/; download it from "
        "http://host.robots.ox.ac.uk/pascal/VOC/, or",
    ):
        Voc(root=str(tmp_path / "no")).records()
    (root / "Annotations/000002.xml").unlink()
    with pytest.raises(
        LabelError, match=r"1 of 3 images have no label \(first: JPEGImages/000002.jpg\); expected"
    ):
        Voc(root=str(root)).records()
    for path in (root / "Annotations").iterdir():
        path.write_text("<annotation/>")
    with pytest.raises(
        LabelError, match=r"the 2 .xml files under .* contain no object, so there are"
    ):
        Voc(root=str(root)).categories()
