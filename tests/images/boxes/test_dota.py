import re
import shutil

import pytest

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.boxes.dota import Dota, parse
from alps.protocols import ImageSet
from tests.box_formats import create_dota
from tests.images.boxes.boxed import around, check_corners, check_objects, read_all, splits


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("dota")
    return root, create_dota(root)


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "dota")


def test_images_splits_and_boxes(published):
    images = Dota(root=str(published[0]))
    assert isinstance(images, ImageSet)
    assert splits(images) == {"P0000": "train", "P0002": "train", "P0003": "val"}
    names = [category.name for category in images.categories()]
    for image_id, sample in read_all(images).items():
        check_objects(sample, [around(o) for o in published[1][image_id]], names)
        check_corners(sample, published[1][image_id])


def test_the_published_excerpt(tmp_path):
    (tmp_path / "P0000.txt").write_text(
        "imagesource:GoogleEarth\ngsd:0.146343590398\n"
        "2753 2408 2861 2385 2888 2468 2805 2502 plane 0\n"
        "3445.0 3391.0 3484.0 3409.0 3478.0 3422.0 3437.0 3402.0 large-vehicle 1\n"
    )
    (plane, vehicle), unparsed, _ = parse(tmp_path / "P0000.txt")
    assert plane.points == [2753, 2408, 2861, 2385, 2888, 2468, 2805, 2502]
    assert (plane.category, plane.where, plane.ignore) == ("plane", "line 3", False)
    assert (vehicle.category, vehicle.where, vehicle.ignore) == ("large-vehicle", "line 4", True)
    assert unparsed == []


@pytest.mark.parametrize(("version", "n"), [("1.0", 15), ("1.5", 16), ("2.0", 18), (1.5, 16)])
def test_versions_have_classes_in_the_order_of_sota(root, version, n):
    for split in ("train", "val"):
        (root / split / "labelTxt-v2.0").rename(root / split / "labelTxt")
    categories = Dota(root=str(root), version=version).categories()
    assert [c.id for c in categories] == list(range(n))
    assert [c.name for c in categories[:2]] == ["large-vehicle", "swimming-pool"]


def test_a_class_of_a_later_version_is_unknown(root):
    for split in ("train", "val"):
        (root / split / "labelTxt-v2.0").rename(root / split / "labelTxt")
    sample = read_all(Dota(root=str(root), version="1.0"))["P0000"]
    assert sample.dropped == (
        "P0000.txt line 5: category 'helipad' is not one of the 15: large-vehicle, swimming-pool, "
        "helicopter, bridge, plane, ship, soccer-ball-field, basketball-court, …",
    )
    assert sample.boxes.object_id.tolist() == [0, 1, 3]


def test_invalid_lines_are_reported_and_the_others_kept(root):
    with (root / "train/labelTxt-v2.0/P0000.txt").open("a") as file:
        file.write("1 2 3 4 plane 0\n\n10 10 x 10 20 20 10 20 plane 0\n")
    sample = read_all(Dota(root=str(root)))["P0000"]
    assert len(sample.boxes) == 4
    assert sample.dropped == (
        "P0000.txt line 7: 6 fields, expected x1 y1 … x4 y4 category difficult",
        "P0000.txt line 9: coordinates 10 10 nan 10 20 20 10 20 are not all numbers",
    )


def test_an_image_without_objects_has_no_box(root):
    (root / "val/labelTxt-v2.0/P0003.txt").write_text("imagesource:GoogleEarth\ngsd:null\n")
    assert len(read_all(Dota(root=str(root)))["P0003"].boxes) == 0


def test_labels_may_be_at_any_depth_and_without_splits(root):
    (root / "train/labelTxt-v2.0").rename(root / "up")
    (root / "train/images").rename(root / "images")
    shutil.rmtree(root / "val")
    (root / "labelTxt").mkdir()
    (root / "up").rename(root / "labelTxt/hbb")
    assert splits(Dota(root=str(root))) == {"P0000": "train", "P0002": "train"}


def test_a_moved_box_changes_the_record(root):
    before = Dota(root=str(root)).records()
    path = root / "val/labelTxt-v2.0/P0003.txt"
    path.write_text(re.sub(r"(\d)\.(\d) ", r"\1.\g<2>5 ", path.read_text(), count=1))
    after = Dota(root=str(root)).records()
    assert [b.image_id for b, a in zip(before, after, strict=True) if b != a] == ["P0003"]


def test_the_error_names_what_is_missing(root, tmp_path):
    with pytest.raises(ConfigError, match=r"dataset.version=3: choose one of 1.0, 1.5, 2.0"):
        Dota(root=str(root), version="3")
    with pytest.raises(
        DatasetNotFound,
        match=rf"no DOTA-v2.0 under {tmp_path / 'no'}: found no such folder, looked for images/ "
        r"and labelTxt/ .* download it from https://captain-whu.github.io/DOTA/dataset.html, or "
        r"set",
    ):
        Dota(root=str(tmp_path / "no")).records()
    (root / "train/labelTxt-v2.0/P0002.txt").unlink()
    with pytest.raises(
        LabelError,
        match=r"1 of 3 images have no label \(first: train/images/P0002.png\); expected a .txt",
    ):
        Dota(root=str(root)).records()
    (root / "train/labelTxt-v2.0/more").mkdir()
    for folder in ("", "more/"):
        (root / f"train/labelTxt-v2.0/{folder}P0002.txt").write_text("")
    with pytest.raises(
        LabelError, match=r"P0002.txt and .*P0002.txt annotate the same image; remove"
    ):
        Dota(root=str(root)).records()
