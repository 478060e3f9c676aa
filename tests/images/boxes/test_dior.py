import shutil
from pathlib import Path

import numpy as np
import pytest

from alps.errors import ConfigError, DatasetNotFound, ImageError, LabelError
from alps.images.boxes.dior import CLASSES, Dior, parse, parse_both
from alps.protocols import ImageSet
from tests.box_formats import create_dior
from tests.images.boxes.boxed import around, check_corners, check_objects, read_all, splits

HORIZONTAL, ORIENTED = (f"Annotations/{k} Bounding Boxes" for k in ("Horizontal", "Oriented"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("dior")
    return root, create_dior(root, categories=("airplane", "Expressway-toll-station"))


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "dior")


def names(images):
    """As the XML files spell them."""
    return [c.name.replace("expressway", "Expressway") for c in images.categories()]


def test_images_splits_and_both_boxes(published):
    images = Dior(root=str(published[0]))
    assert isinstance(images, ImageSet)
    assert splits(images) == {"00001": "train", "00002": "val", "11726": "test"}
    assert (len(CLASSES), CLASSES[7], CLASSES[19]) == (20, "expressway-toll-station", "windmill")
    for image_id, sample in read_all(images).items():
        check_objects(sample, published[1][image_id], names(images))
        check_corners(sample, published[1][image_id])


def test_one_kind_of_boxes_can_be_selected(published):
    across = Dior(root=str(published[0]), boxes="horizontal")
    turned = Dior(root=str(published[0]), boxes="oriented")
    truth = published[1]["00001"]
    # Horizontal files do not say which objects are difficult.
    check_objects(read_all(across)["00001"], truth, names(across), ignored=False)
    boxes = read_all(across)["00001"].boxes
    np.testing.assert_array_equal(boxes.quad, boxes.xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]])
    sample = read_all(turned)["00001"]
    check_objects(sample, [around(o) for o in truth], names(turned))
    check_corners(sample, truth)
    with pytest.raises(
        ConfigError, match=r"dataset.boxes=round: choose horizontal or oriented, or"
    ):
        Dior(root=str(published[0]), boxes="round")


def test_the_published_excerpts(tmp_path):
    head = "<annotation><filename>00001.jpg</filename><segmented>0</segmented>"
    box = "<xmin>133</xmin><ymin>237</ymin><xmax>684</xmax><ymax>672</ymax>"
    horizontal = tmp_path / "00001.xml"
    for tag in ("bndbox", "robndbox"):  # some files call it so
        horizontal.write_text(
            f"{head}<source><database>DIOR</database></source><object><name>golffield</name>"
            f"<pose>Unspecified</pose><{tag}>{box}</{tag}></object></annotation>"
        )
        ((field,), unparsed, _) = parse(horizontal)
        assert (field.category, field.where, field.ignore) == ("golffield", "object 1", False)
        assert (field.points, field.quad, unparsed) == ([133, 237, 684, 672], None, [])
    (tmp_path / "oriented").mkdir()
    (tmp_path / "oriented/00001.xml").write_text(
        f"{head}<object><type>robndbox</type><name>golffield</name><truncated>0</truncated>"
        "<difficult>0</difficult><robndbox><x_left_top>133</x_left_top>"
        "<y_left_top>237</y_left_top><x_right_top>684</x_right_top>"
        "<y_right_top>237</y_right_top><x_right_bottom>684</x_right_bottom>"
        "<y_right_bottom>672</y_right_bottom><x_left_bottom>133</x_left_bottom>"
        "<y_left_bottom>672</y_left_bottom></robndbox><angle>0</angle></object></annotation>"
    )
    ((field,), unparsed, _) = parse_both(horizontal, oriented=tmp_path / "oriented")
    assert field.points == [133, 237, 684, 672]
    assert field.quad == [133, 237, 684, 237, 684, 672, 133, 672]
    assert unparsed == []


def first_object(path: Path) -> str:
    return next(line for line in path.read_text().splitlines() if line.startswith("<object>"))


@pytest.mark.parametrize("how", ["one is missing", "another class", "another place"])
def test_if_the_kinds_disagree_the_oriented_boxes_are_used(root, published, how):
    path = root / HORIZONTAL / "00001.xml"
    old = first_object(path)
    new = {
        "one is missing": "",
        "another class": old.replace("airplane", "ship"),
        "another place": old.replace("<xmin>", "<xmin>-900").replace("<xmax>", "<xmax>-8"),
    }[how]
    path.write_text(path.read_text().replace(old, new, 1))
    images = Dior(root=str(root))
    samples = read_all(images)
    check_objects(samples["00001"], [around(o) for o in published[1]["00001"]], names(images))
    check_objects(samples["00002"], published[1]["00002"], names(images))


def test_an_image_without_oriented_boxes_has_its_horizontal_ones(root, published):
    (root / ORIENTED / "00001.xml").unlink()
    images = Dior(root=str(root))
    check_objects(read_all(images)["00001"], published[1]["00001"], names(images), ignored=False)


def test_one_folder_of_images_without_lists(root):
    shutil.rmtree(root / "JPEGImages-test")
    assert splits(Dior(root=str(root))) == {"00001": "train", "00002": "val"}
    shutil.rmtree(root / "ImageSets")
    assert splits(Dior(root=str(root))) == {"00001": "train", "00002": "train"}


@pytest.mark.parametrize("folder", [HORIZONTAL, ORIENTED])
def test_a_truncated_annotation_file_costs_one_image(root, folder):
    path = root / folder / "00002.xml"
    path.write_text(path.read_text()[:300])
    images = Dior(root=str(root))
    first, cut, last = images.records()
    with pytest.raises(
        ImageError, match=rf"{path} is not a complete XML file: .*; it may be truncated"
    ):
        images.read(cut)
    assert len(images.read(first).boxes) == len(images.read(last).boxes) == 4


def test_unusable_objects_are_reported_and_the_others_kept(root):
    for folder in (HORIZONTAL, ORIENTED):
        path = root / folder / "00001.xml"
        text = path.read_text().replace("<name>airplane", "<name>Zeppelin", 1)
        path.write_text(text.replace("</annotation>", "<object/></annotation>"))
    path = root / ORIENTED / "00001.xml"
    path.write_text(path.read_text().replace("<x_left_top>", "<x_left_top>-", 1))
    sample = read_all(Dior(root=str(root)))["00001"]
    assert sample.boxes.object_id.tolist() == [1, 2, 3]
    assert sample.dropped == (
        "00001.xml object 5: no <bndbox> and no <robndbox>, expected one",
        "00001.xml object 1: category 'Zeppelin' is not one of the 20: airplane, airport, "
        "baseballfield, basketballcourt, bridge, chimney, expressway-service-area, "
        "expressway-toll-station, …",
    )


@pytest.mark.parametrize("folder", [HORIZONTAL, ORIENTED])
def test_a_moved_box_of_either_kind_changes_the_record(root, folder):
    before = Dior(root=str(root)).records()
    path = root / folder / "11726.xml"
    tag = "xmin" if folder == HORIZONTAL else "x_left_top"
    path.write_text(path.read_text().replace(f"</{tag}>", f"0</{tag}>", 1))
    after = Dior(root=str(root)).records()
    assert [b.image_id for b, a in zip(before, after, strict=True) if b != a] == ["11726"]


def test_the_error_names_what_is_missing(root, tmp_path):
    with pytest.raises(
        DatasetNotFound,
        match=rf"no DIOR under {tmp_path / 'no'}: found no such folder, looked for "
        r"JPEGImages-trainval/ or JPEGImages-test/ and Annotations/Horizontal Bounding Boxes/ or "
        r"Annotations/Oriented Bounding Boxes/; download it from https://gcheng-nwpu.github.io/#Datasets,",
    ):
        Dior(root=str(tmp_path / "no")).records()
    (root / HORIZONTAL / "00001.xml").unlink()
    with pytest.raises(LabelError, match=r"1 of 3 images have no label .* a .xml file of the same"):
        Dior(root=str(root)).records()
    shutil.rmtree(root / HORIZONTAL)
    assert len(Dior(root=str(root)).records()) == 3
    with pytest.raises(DatasetNotFound, match=r"looked for .* and Annotations/Horizontal Bounding"):
        Dior(root=str(root), boxes="horizontal").records()
