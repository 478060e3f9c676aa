import math
import shutil

import numpy as np
import pytest

from alps.errors import ConfigError, DatasetNotFound, ImageError, LabelError
from alps.images.boxes.hrsc2016 import TYPES, Hrsc2016, parse
from alps.protocols import ImageSet
from tests.box_formats import create_hrsc2016
from tests.factories import create_image
from tests.images.boxes.boxed import check_corners, check_objects, read_all, splits

SPLITS = {"100000001": "train", "100000002": "val", "100000003": "test"}
PUBLISHED = """<HRSC_Image>
  <Img_ID>100000001</Img_ID><Place_ID>100000001</Place_ID><Img_FileFmt>bmp</Img_FileFmt>
  <Img_CusType>sealand</Img_CusType><Img_Location>69.040297,33.070036</Img_Location>
  <Img_SizeWidth>1166</Img_SizeWidth><Img_SizeHeight>753</Img_SizeHeight>
  <Img_Resolution>1.07</Img_Resolution><Annotated>1</Annotated>
  <HRSC_Objects>
    <HRSC_Object>
      <Object_ID>100000001</Object_ID><Class_ID>100000013</Class_ID>
      <Object_NO>100000001</Object_NO><truncated>0</truncated><difficult>0</difficult>
      <box_xmin>194</box_xmin><box_ymin>243</box_ymin>
      <box_xmax>972</box_xmax><box_ymax>507</box_ymax>
      <mbox_cx>582.9349</mbox_cx><mbox_cy>353.2006</mbox_cy>
      <mbox_w>778.1303</mbox_w><mbox_h>174.2541</mbox_h><mbox_ang>-0.2144308</mbox_ang>
      <segmented>0</segmented><seg_color></seg_color>
      <header_x>964</header_x><header_y>290</header_y>
    </HRSC_Object>
  </HRSC_Objects>
</HRSC_Image>"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("hrsc2016")
    return root, create_hrsc2016(root)


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "hrsc2016")


def test_images_splits_and_both_boxes(published):
    images = Hrsc2016(root=str(published[0]))
    assert isinstance(images, ImageSet)
    assert splits(images) == SPLITS
    assert [category.name for category in images.categories()] == ["ship"]
    for image_id, sample in read_all(images).items():
        check_objects(sample, published[1][image_id], ["ship"])
        check_corners(sample, published[1][image_id])


def test_the_published_excerpt_has_its_bow_at_the_right_corner(tmp_path):
    path = tmp_path / "100000001.xml"
    path.write_text(PUBLISHED, encoding="utf-8-sig")
    ((ship,), unparsed, _) = parse(path)
    assert (ship.category, ship.where, ship.ignore) == ("ship", "object 1", False)
    assert ship.points == [194, 243, 972, 507]
    quad = np.reshape(ship.quad, (4, 2))
    np.testing.assert_allclose(quad.mean(0), [582.9349, 353.2006])
    sides = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    np.testing.assert_allclose(sides, [778.1303, 174.2541] * 2)
    # The angle turns from x to y, which points down: this ship heads to the upper right.
    bow = quad[1:3].mean(0)
    assert math.dist(bow, (964, 290)) < 25
    assert unparsed == []
    ((carrier,), _, _) = parse(path, level="type")
    assert carrier.category == "Kuznetsov"


def test_types_of_ships(root):
    path = root / "Train/Annotations/100000001.xml"
    path.write_text(path.read_text().replace("100000013</Class_ID>", "100000021</Class_ID>", 1))
    images = Hrsc2016(root=str(root), level="type")
    assert [category.name for category in images.categories()] == list(TYPES.values())
    assert (len(TYPES), TYPES["100000006"], TYPES["100000033"]) == (
        31,
        "Enterprise",
        "Invincible-class",
    )
    samples = read_all(images)
    assert samples["100000003"].boxes.category_id.tolist() == [12] * 4
    assert samples["100000001"].dropped == (
        "100000001.xml object 1: category '100000021' is not one of the 31: ship, "
        "aircraft carrier, warcraft, merchant ship, Nimitz, Enterprise, Arleigh Burke, "
        "WhidbeyIsland, …",
    )
    with pytest.raises(ConfigError, match=r"dataset.level=2: choose ship or type"):
        Hrsc2016(root=str(root), level="2")


def test_unannotated_images_of_the_full_data_set_are_skipped(root, published):
    for kind in ("AllImages", "Annotations"):
        shutil.move(root / "Train" / kind, root / "FullDataSet" / kind)
        for path in (root / "Test" / kind).iterdir():
            shutil.move(path, root / "FullDataSet" / kind)
    create_image(root / "FullDataSet/AllImages/100000004.bmp")
    create_image(root / "FullDataSet/LandMask/100000001.png")
    for folder in ("Train", "Test"):
        shutil.rmtree(root / folder)
    images = Hrsc2016(root=str(root))
    assert splits(images) == SPLITS
    check_objects(read_all(images)["100000003"], published[1]["100000003"], ["ship"])
    shutil.rmtree(root / "ImageSets")
    with pytest.raises(DatasetNotFound, match=r"or in FullDataSet/ with the lists in ImageSets/"):
        Hrsc2016(root=str(root)).records()


def test_without_lists_the_folders_are_the_splits(root):
    shutil.rmtree(root / "ImageSets")
    assert list(splits(Hrsc2016(root=str(root))).values()) == ["train", "train", "test"]


def test_unusable_objects_are_reported_and_the_others_kept(root):
    path = root / "Train/Annotations/100000001.xml"
    text = path.read_text().replace("<mbox_cx>", "<mbox_cx>about ", 1)
    head, middle, tail = text.rpartition("<box_xmin>")
    path.write_text(head + "<!--" + middle + tail.replace("</box_xmin>", "</box_xmin>-->", 1))
    sample = read_all(Hrsc2016(root=str(root)))["100000001"]
    assert sample.boxes.object_id.tolist() == [1, 2]
    corners, box = sample.dropped
    assert corners.startswith("100000001.xml object 1: coordinates nan ")
    assert box.startswith("100000001.xml object 4: coordinates nan ")


def test_a_truncated_annotation_file_costs_one_image(root):
    path = root / "Train/Annotations/100000002.xml"
    path.write_text(path.read_text()[:500])
    images = Hrsc2016(root=str(root))
    first, cut, last = images.records()
    with pytest.raises(
        ImageError, match=rf"{path} is not a complete XML file: .*; it may be truncated"
    ):
        images.read(cut)
    assert len(images.read(first).boxes) == len(images.read(last).boxes) == 4


def test_a_moved_box_changes_the_record(root):
    before = Hrsc2016(root=str(root)).records()
    path = root / "Test/Annotations/100000003.xml"
    path.write_text(path.read_text().replace("</mbox_ang>", "1</mbox_ang>", 1))
    after = Hrsc2016(root=str(root)).records()
    assert [b.image_id for b, a in zip(before, after, strict=True) if b != a] == ["100000003"]


def test_the_error_names_what_is_missing(root, tmp_path):
    with pytest.raises(
        DatasetNotFound,
        match=rf"no HRSC2016 under {tmp_path / 'no'}: found no such folder, looked for AllImages/ "
        r"and Annotations/ in Train/ and Test/, .*; download it from "
        r"https://aistudio.baidu.com/.*, or",
    ):
        Hrsc2016(root=str(tmp_path / "no")).records()
    (root / "Test/Annotations/100000003.xml").unlink()
    with pytest.raises(LabelError, match=r"1 of 3 images have no label \(first: Test/AllImages/"):
        Hrsc2016(root=str(root)).records()
