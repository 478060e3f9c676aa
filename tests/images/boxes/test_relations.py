"""Annotations that do not belong to their images, in every format that says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alps.images.boxes.coco import Coco
from alps.images.boxes.dota import Dota
from alps.images.boxes.table import Table
from alps.images.boxes.voc import Voc
from alps.images.files.fields import check_classes
from alps.images.files.header import read_size
from alps.images.files.read import read_image
from alps.images.video.tracked import VideoBoxes
from alps.structures.findings import AuditableSet
from tests.factories import create_image
from tests.images.boxes.layouts import FORMATS, SIZED, create, first_sample, kinds


@pytest.mark.parametrize("kind", FORMATS)
def test_an_intact_dataset_has_only_findings_on_unused_classes(kind, tmp_path):
    images = create(tmp_path, kind)[0]()
    assert isinstance(images, AuditableSet)
    unused = kinds(images).pop("unused_classes", None)
    assert kinds(images).keys() <= {"unused_classes"}
    if unused:
        n = len(images.categories())
        assert str(unused).startswith(f"{unused.count} of {n} classes have no object (")
        assert str(unused).endswith(
            "no network can learn them: remove them from the classes, or add annotations"
        )


@pytest.mark.parametrize("kind", SIZED)
def test_boxes_of_a_resized_image_are_dropped_and_counted(kind, tmp_path):
    make, path = create(tmp_path, kind)
    before = first_sample(make(), path)
    height, width = before.size
    Image.open(path).resize((width // 2, height // 2)).save(path)
    images = make()
    sample = first_sample(images, path)
    assert (len(sample.boxes), len(sample.dropped)) == (0, len(before.boxes))
    [line] = set(sample.dropped)
    problem = (
        f"{path.name} is {width // 2} x {height // 2} px and its annotations are for an image of "
        f"{width} x {height} px, so the boxes do not fit"
    )
    assert line.endswith(problem)
    finding = kinds(images)["other_size"]
    n = len(images.records())
    assert finding.message == (
        f"1 of {n} images do not have the size stated in their annotations (first: "
        f"{path.relative_to(tmp_path).parent.as_posix()}/{problem})"
    )
    assert finding.remedy.startswith("use the images that were annotated, or correct the stated")
    others = [r for r in images.records() if Path(images.root, r.file_name) != path]
    assert all(len(images.read(r).boxes) for r in others)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_rotated_image_is_reported_as_such(kind, tmp_path):
    make, path = create(tmp_path, kind)
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(path).save(path, exif=exif)
    images = make()
    assert images.read(images.records()[0]).size == (128, 96)
    assert (
        "96 x 128 px and its annotations are for an image of 128 x 96 px (rotated, as by an EXIF"
        in (kinds(images)["other_size"].message)
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "jp2"])
def test_the_size_in_the_header_equals_that_of_the_decoded_image(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(np.zeros((5, 9, 3), np.uint8))
    image.save(path)
    assert read_size(path) == (5, 9) == read_image(path).shape[:2]
    if suffix in ("png", "jpg", "tif"):
        exif = Image.Exif()
        exif[0x112] = 6
        image.save(path, exif=exif)
        assert read_size(path) == (9, 5) == read_image(path).shape[:2]
    path.write_bytes(path.read_bytes()[:12])
    assert read_size(path) is None


def test_a_stated_size_of_zero_is_none(tmp_path):
    """Tools write 0 by 0 where they do not know it."""
    make, path = create(tmp_path, "voc")
    xml = tmp_path / "Annotations/000000.xml"
    xml.write_text(xml.read_text().replace("<width>128<", "<width>0<"))
    images = make()
    assert len(first_sample(images, path).boxes) == 4
    assert "other_size" not in kinds(images)


@pytest.mark.parametrize("kind", ["voc", "dior", "hrsc2016", "dota"])
def test_annotations_without_image_are_counted(kind, tmp_path):
    make, path = create(tmp_path, kind)
    file = min(p for p in tmp_path.rglob(f"{path.stem}.*") if p.suffix in (".xml", ".txt"))
    file.with_stem("orphan").write_bytes(file.read_bytes())
    finding = kinds(make())["orphan_annotations"]
    assert finding.count == 1
    name = file.with_stem("orphan").relative_to(tmp_path).as_posix()
    assert f"belong to no image (first: {name})" in finding.message
    assert finding.remedy == "add the images, or give images and annotations the same names"


@pytest.mark.parametrize("kind", ["voc", "hrsc2016", "dota", "coco", "dior"])
def test_a_dataset_with_only_ignored_objects_is_reported(kind, tmp_path):
    make, _ = create(tmp_path, kind)
    for path in (p for p in tmp_path.rglob("*") if p.suffix in (".xml", ".txt", ".json")):
        text = path.read_text().replace("<difficult>0<", "<difficult>1<")
        text = text.replace('"iscrowd": 0', '"iscrowd": 1').replace(" 0\n", " 1\n")
        path.write_text(text)
    finding = kinds(make())["all_ignored"]
    assert finding.message.startswith(f"all {finding.count} objects are marked as ignored, so no")
    assert "ignore_crowd=false" in finding.remedy or "clear the flag" in finding.remedy


@pytest.mark.parametrize("kind", ["voc", "fair1m", "hrsc2016", "dota"])
def test_duplicates_images_without_objects_and_invalid_objects_are_counted(kind, tmp_path):
    make, path = create(tmp_path, kind)
    file = next(p for p in sorted(tmp_path.rglob(f"{path.stem}.*")) if p.suffix in (".xml", ".txt"))
    text = file.read_text()
    if file.suffix == ".txt":
        lines = text.splitlines()
        file.write_text("\n".join([*lines, lines[-1], "1 2 3"]))
        bare = "imagesource:x\n"
    else:
        tag = "HRSC_Object" if kind == "hrsc2016" else "object"
        start, stop = text.index(f"<{tag}>"), text.index(f"</{tag}>") + len(f"</{tag}>")
        file.write_text(text[:stop] + text[start:stop] + text[stop:])
        bare = text[:start] + text[text.rindex(f"</{tag}>") + len(f"</{tag}>") :]
    found = kinds(make())
    assert found["duplicate_annotations"].count == 1
    assert "annotations duplicate another annotation of the same image (first: " in str(found)
    if kind == "dota":
        assert "line 8: 3 fields, expected x1 y1" in found["unclear_annotations"].message
    file.write_text(bare)
    message = kinds(make())["images_without_annotations"].message
    assert "images have no annotation (first: " in message


@pytest.mark.parametrize("mark", ["maybe", "3", "-1"])
@pytest.mark.parametrize("kind", ["voc", "dior", "hrsc2016", "dota"])
def test_an_object_with_an_invalid_flag_is_dropped(kind, mark, tmp_path):
    make, path = create(tmp_path, kind)
    n = len(first_sample(make(), path).boxes)
    for file in (p for p in tmp_path.rglob(f"{path.stem}.*") if p.suffix in (".xml", ".txt")):
        text = file.read_text().replace("<difficult>0<", f"<difficult>{mark}<", 1)
        file.write_text(text.replace(" 0\n", f" {mark}\n", 1))
    images = make()
    sample = first_sample(images, path)
    [line] = sample.dropped
    assert f"difficult{'>' * (kind != 'dota')} is {mark!r}, expected 0" in line
    assert len(sample.boxes) == n - 1
    assert kinds(images)["unclear_annotations"].count == 1


@pytest.mark.parametrize(
    ("mark", "ignored"),
    [("0", 0), ("0.0", 0), ("False", 0), ("1", 1), ("1.0", 1), ("2", 1), ("TRUE", 1)],
)
@pytest.mark.parametrize("kind", ["voc", "dota"])
def test_all_spellings_of_a_flag_are_read(kind, mark, ignored, tmp_path):
    make, path = create(tmp_path, kind)
    for file in (p for p in tmp_path.rglob(f"{path.stem}.*") if p.suffix in (".xml", ".txt")):
        text = file.read_text().replace("<difficult>0<", f"<difficult>{mark}<", 1)
        file.write_text(text.replace(" 0\n", f" {mark}\n", 1))
    sample = first_sample(make(), path)
    assert (sample.boxes.ignore[0], sample.dropped) == (bool(ignored), ())


def test_unreadable_files_are_counted_with_the_first_reason(tmp_path):
    make, _ = create(tmp_path, "voc")
    file = tmp_path / "Annotations/000001.xml"
    file.write_text(file.read_text().replace("<name>", "<name>A & ", 1))
    finding = kinds(make())["unreadable_annotations"]
    assert str(finding) == (
        "1 of 3 annotation files cannot be read (first: Annotations/000001.xml is not XML: it has "
        "an unescaped & in line 2 ('t><name>A & person</'); write &amp; instead); repair or "
        "remove them; "
        "until then their images are skipped"
    )


def test_dota_accepts_custom_classes(tmp_path):
    make, path = create(tmp_path, "dota")
    for file in tmp_path.rglob("*.txt"):
        file.write_text(file.read_text().replace("plane", "solar-panel"))
    finding = kinds(make())["unknown_classes"]
    assert "have an unknown class (first: 'solar-panel' in train/labelTxt-v2.0/P0000" in str(
        finding
    )
    assert finding.remedy.startswith("set dataset.classes=[...]")
    names = ["helipad", "solar-panel", "large-vehicle"]
    images = Dota(root=str(tmp_path), classes=names)
    assert [c.name for c in images.categories()] == names
    assert images.findings() == []
    assert first_sample(images, path).dropped == ()
    for reader in (Dota, Voc, Table, VideoBoxes):
        for classes in ("cat", ["a", "a"], [], [" "]):
            with pytest.raises(
                Exception, match=r"dataset\.classes=.*: expected a list of distinct"
            ):
                reader(root=str(tmp_path), classes=classes)
    assert check_classes([1, "b"]) == ["1", "b"]  # numbers in YAML are names, too


@pytest.mark.parametrize("kind", ["fair1m", "table", "coco"])
def test_sidecar_files_are_counted(kind, tmp_path):
    image = tmp_path / "images/a.tif"
    if kind == "fair1m":
        images, image = create(tmp_path, kind)[0](), tmp_path / "train/part1/images/0.tif"
    else:
        create_image(image, (8, 8))
        (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na,1,1,9,9\n")
        file = {"images": [{"id": 1, "file_name": "a.tif"}], "annotations": [], "categories": []}
        (tmp_path / "instances.json").write_text(json.dumps(file))
        images = {"table": Table, "coco": Coco}[kind](root=str(tmp_path))
    image.with_suffix(".aux").touch()
    assert kinds(images)["raster_sidecars"].count == 1
