"""COCO files as tools and people write them: what is read, what is counted, what is refused."""

import inspect
import json
import unicodedata

import numpy as np
import pytest

from alps.errors import ConfigError, LabelError
from alps.images.boxes.coco import Coco
from tests.factories import create_image
from tests.images.boxes.boxed import read_all

SIZE = (128, 160)


@pytest.fixture
def file():
    """Two images with an object each, of two categories."""
    images = [
        {"id": i, "file_name": f"{name}.png", "width": SIZE[1], "height": SIZE[0]}
        for i, name in ((1, "a"), (2, "b"))
    ]
    annotations = [
        {"id": i, "image_id": i, "category_id": i, "bbox": [50 * i - 40, 10, 40, 30], "iscrowd": 0}
        for i in (1, 2)
    ]
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "house"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def coco(tmp_path, file):
    """Write the file and its images; returns the image set."""

    def write(encoding="utf-8", **options):
        for name in ("a", "b"):
            create_image(tmp_path / f"images/{name}.png", SIZE)
        (tmp_path / "instances.json").write_bytes(json.dumps(file).encode(encoding))
        return Coco(root=str(tmp_path), **options)

    return write


def classes(images):
    """Of the objects of each image."""
    names = [category.name for category in images.categories()]
    return {i: [names[c] for c in s.boxes.category_id] for i, s in read_all(images).items()}


def kinds(images):
    return {finding.kind: finding for finding in images.findings()}


SOUND = {"a": ["car"], "b": ["house"]}


def test_an_intact_file_has_no_finding(coco):
    images = coco()
    assert classes(images) == SOUND
    assert images.findings() == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_ignored(coco, encoding):
    assert classes(coco(encoding)) == SOUND


def test_another_encoding_is_reported(coco, file, tmp_path):
    coco()
    text = json.dumps(file).replace("house", "h\xf4tel").encode("latin-1")
    (tmp_path / "instances.json").write_bytes(text)
    message = r"instances\.json: it is not UTF-8 \(byte 0xf4 in line 1\); save it as UTF-8"
    with pytest.raises(LabelError, match=message):
        Coco(root=str(tmp_path)).records()


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("spell", [str, float], ids=["text", "float"])
def test_ids_in_another_spelling_are_equal(coco, file, key, spell):
    for annotation in file["annotations"]:
        annotation[key] = spell(annotation[key])
    images = coco()
    assert classes(images) == SOUND
    if spell is str:
        assert str(images.findings()[0]) == (
            "2 of 2 annotations have an id as text that is a number in images or categories, or "
            f'vice versa (first: {key} of annotation 1 is "1"); write ids as numbers if other '
            "tools need the file; ALPS treats both as equal"
        )
    else:
        assert images.findings() == []


def test_ids_stored_as_text_throughout_are_accepted(coco, file):
    for entry in (*file["images"], *file["annotations"], *file["categories"]):
        entry.update({key: str(value) for key, value in entry.items() if key.endswith("id")})
    images = coco()
    assert classes(images) == SOUND
    assert images.findings() == []


@pytest.mark.parametrize("value", [None, 1.5, [], {}, True, 9, "car"])
def test_an_annotation_without_category_is_dropped(coco, file, value):
    extra = {"id": 3, "image_id": 2, "category_id": value, "bbox": [], "segmentation": [[]]}
    file["annotations"].append(extra)
    images = coco()
    assert classes(images) == SOUND
    [line] = read_all(images)["b"].dropped
    own = f"category {str(value)!r}" if value in (9, "car") else f"category_id {json.dumps(value)}"
    assert line == f"instances.json annotation 3: {own} is none of the 2: car, house"
    assert kinds(images)["unclear_annotations"].message == (
        f"1 of 3 annotations cannot be parsed (first: {line})"
    )


def test_an_annotation_of_a_missing_category_is_dropped(coco, file):
    del file["annotations"][0]["category_id"]
    images = coco()
    assert classes(images) == {"a": [], "b": ["house"]}
    assert "annotation 1: category_id null is none" in read_all(images)["a"].dropped[0]


def test_category_ids_are_not_confused_with_names(coco, file):
    file["categories"][0]["name"] = "7"
    file["annotations"][1]["category_id"] = 7
    assert classes(coco()) == {"a": ["7"], "b": []}


def test_annotations_without_ids_are_identified_by_index(coco, file):
    for annotation in file["annotations"]:
        del annotation["id"]
    file["annotations"][1]["bbox"] = [1, 2, 3]
    images = coco()
    assert classes(images) == {"a": ["car"], "b": []}
    assert read_all(images)["b"].dropped[0].startswith("instances.json annotations[1]: 3 coord")


@pytest.mark.parametrize("value", [9, "01", None, [], 1.5])
def test_annotations_of_no_image_are_counted(coco, file, value):
    file["annotations"][1]["image_id"] = value
    file["annotations"].append(7)
    images = coco()
    assert classes(images) == {"a": ["car"], "b": []}
    finding = images.findings()[0]
    assert (finding.kind, finding.count) == ("orphan_annotations", 2)
    assert str(finding) == (
        "2 of 3 annotations belong to no image (first: annotation 2 has image_id "
        f"{json.dumps(value)}); correct their image_id or add the images; until then they are "
        f"skipped"
    )


def test_two_images_with_one_id_are_refused(coco, file):
    for same in (1, "1", 1.0):
        file["images"][1]["id"] = same
        with pytest.raises(
            LabelError, match=r"two images have the id 1, 'a\.png' and 'b\.png', so"
        ):
            coco().records()


def test_a_file_listed_twice_is_one_image_with_the_annotations_of_both(coco, file):
    file["images"][1]["file_name"] = "a.png"
    file["annotations"][0]["segmentation"] = [[10, 10, 50, 10, 50, 40]]
    file["annotations"][1]["segmentation"] = [[60, 10, 100, 10, 100, 40]]
    images = coco()
    assert classes(images) == {"a": ["car", "house"]}
    assert kinds(images)["listed_twice"].message == (
        "1 of 2 images are listed twice or more (first: a.png as images[1])"
    )
    [record] = images.records()
    sample = images.read(record)
    masks = images.read_instances(record, sample.boxes[np.array([1])], sample.size)
    assert masks.xyxy.round(-1).tolist() == [[60, 10, 100, 40]]
    file["images"][0]["width"] = 320  # then its annotations go, and those of the other entry stay
    images = coco()
    sample = images.read(record)
    assert sample.boxes.object_id.tolist() == [1]
    assert len(sample.dropped) == 1
    masks = images.read_instances(record, sample.boxes, sample.size)
    assert masks.xyxy.round(-1).tolist() == [[60, 10, 100, 40]]


def test_duplicate_entries_are_one_image(coco, file):
    file["images"].append(dict(file["images"][0]))
    images = coco()
    assert classes(images) == SOUND
    assert kinds(images).keys() == {"listed_twice"}


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        (("vehicle", "building"), ["other (vehicle)", "other (building)"]),
        ((None, None), ["other (id 1)", "other (id 2)"]),
        (("a", "a"), ["other (a)", "other (id 2)"]),
    ],
)
def test_two_categories_with_one_name_are_two_classes(coco, file, groups, names):
    for category, group in zip(file["categories"], groups, strict=True):
        category.update(name="other", supercategory=group)
    images = coco()
    assert [(c.id, c.name) for c in images.categories()] == [*enumerate(names)]
    assert classes(images) == {"a": names[:1], "b": names[1:]}
    assert kinds(images)["same_class_name"].message == (
        f"2 of 2 categories share a name (first: 'other', now {names[0]!r})"
    )


def test_a_generated_name_is_unique(coco, file):
    for category in file["categories"]:
        category["name"] = "other"
    file["categories"] += [{"id": 3, "name": "other (id 1)"}]
    names = [category.name for category in coco().categories()]
    assert len({*names}) == 3
    assert names[2] == "other (id 1)"


def test_two_categories_with_one_id_are_refused(coco, file):
    file["categories"][1]["id"] = "1"
    with pytest.raises(
        LabelError,
        match=r"two categories have the id 1, 'car' and 'house', so annotations are ambiguous",
    ):
        coco().categories()


def test_a_file_without_categories_has_no_classes(coco, file):
    file["categories"].clear()
    images = coco()
    assert len(images.records()) == 2
    with pytest.raises(LabelError, match=r"lists no categories, so its boxes have no classes; add"):
        images.categories()


def test_backslashes_and_paths_from_the_root_are_read(coco, file):
    file["images"][0]["file_name"] = "images\\a.png"
    file["images"][1]["file_name"] = ".\\b.png"
    images = coco()
    assert next(r.file_name for r in images.records()) == "images/a.png"
    assert [*classes(images).values()] == [["car"], ["house"]]
    assert str(kinds(images)["backslashes"]) == (
        "2 of 2 file names have backslashes, as written on Windows (first: 'images\\\\a.png'); "
        "use / if other tools need the file; ALPS reads backslashes as /"
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_name_in_another_unicode_form_is_found(coco, file, tmp_path, forms):
    on_disk, in_file = (unicodedata.normalize(form, "été.png") for form in forms)
    file["images"][0]["file_name"] = in_file
    images = coco()
    (tmp_path / "images/a.png").rename(tmp_path / "images" / on_disk)
    assert [r.file_name for r in images.records()] == [f"images/{on_disk}", "images/b.png"]
    assert [*classes(images).values()] == [["car"], ["house"]]
    assert kinds(images).keys() == {"normalisation"}


def test_missing_images_are_counted(coco, tmp_path):
    images = coco()
    (tmp_path / "images/b.png").unlink()
    assert str(images.findings()[0]) == (
        "1 of 2 images of instances.json are missing (first: images/b.png); add them, or set "
        "dataset.images to their folder; until then they are skipped"
    )


def test_crowds_can_be_treated_as_objects(coco, file):
    for annotation in file["annotations"]:
        annotation["iscrowd"] = 1
    images, objects = coco(), coco(ignore_crowd=False)
    assert [s.boxes.ignore.tolist() for s in read_all(images).values()] == [[True], [True]]
    assert str(images.findings()[0]) == (
        "all 2 objects are marked as ignored, so no pixel gets a class; some tools set iscrowd for "
        "every run-length mask; if the objects are not crowds, label with "
        "dataset.ignore_crowd=false"
    )
    assert [s.boxes.ignore.tolist() for s in read_all(objects).values()] == [[False], [False]]
    assert objects.findings() == []
    assert objects.records() != images.records()  # other labels: another fingerprint
    with pytest.raises(ConfigError, match=r"dataset\.ignore_crowd=0: expected true or false"):
        inspect.unwrap(Coco.__init__)(images, root="x", ignore_crowd=0)  # without beartype


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (7, r"images[2] is not an object, expected id, file_name"),
        ({"id": 3}, r"images[2] has no file_name"),
        ({"id": None, "file_name": "c.png"}, r"id of images[2] is 'None', expected an integer"),
        (
            {"id": 3, "file_name": "\n"},
            r"file_name of images[2] is '\n', expected text of at most 500",
        ),
    ],
)
def test_an_invalid_image_entry_is_skipped(coco, file, entry, why):
    file["images"].append(entry)
    images = coco()
    assert classes(images) == SOUND
    assert why in kinds(images)["unusable_images"].message


def test_categories_without_objects_are_counted(coco, file):
    file["categories"] += [{"id": 9, "name": "tree"}]
    del file["annotations"][1]
    found = kinds(coco())
    assert found["unused_classes"].message == "2 of 3 classes have no object (house, tree)"
    assert found["images_without_annotations"].message == (
        "1 of 2 images have no annotation (first: images/b.png)"
    )
