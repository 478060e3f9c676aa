"""Names in other Unicode forms, byte order marks and encodings."""

import json
import unicodedata

import pytest

from alps.images.boxes.table import Table
from alps.images.boxes.voc import Voc
from alps.images.pixels.folder_pair import FolderPair
from alps.images.samrs.images import Samrs
from alps.images.video.tracked import VideoBoxes
from tests.factories import create_folder_pair, create_image, create_samrs
from tests.images.boxes.boxed import read_all
from tests.images.boxes.layouts import create, first_sample, kinds
from tests.videos import create_video

NFC, NFD = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("kind", ["dota", "voc", "dior"])
def test_annotations_are_found_by_names_in_another_unicode_form(kind, tmp_path):
    make, path = create(tmp_path, kind)
    stem, n = path.stem, len(first_sample(make(), path).boxes)
    path.rename(path.with_stem(NFC))
    for file in [*tmp_path.rglob(f"{stem}.txt"), *tmp_path.rglob(f"{stem}.xml")]:
        file.rename(file.with_stem(NFD))
    for file in tmp_path.rglob("ImageSets/Main/*.txt"):
        file.write_text(file.read_text().replace(stem, NFD))
    images = make()
    assert len(first_sample(images, path.with_stem(NFC)).boxes) == n
    assert kinds(images).keys() <= {"unused_classes"}


def test_pairs_are_found_by_names_in_another_unicode_form(tmp_path):
    create_folder_pair(tmp_path, n=1)
    for folder, name in (("img_dir", NFC), ("ann_dir", NFD)):
        path = next(p for p in (tmp_path / folder).rglob("*") if p.is_file())
        path.rename(path.with_stem(name))
        for other in (p for p in (tmp_path / folder).rglob("*") if p.is_file()):
            assert other.stem == name or other.unlink() is None
    images = FolderPair(root=str(tmp_path), classes=["a", "b", "c"])
    [record] = images.records()
    assert images.read_target(record).ndim == 2


def test_tables_and_videos_are_found_by_names_in_another_spelling(tmp_path):
    create_image(tmp_path / f"images/a/{NFC}.png", (40, 50))
    for name in (NFD, f"{NFD}.png"):
        (tmp_path / "boxes.csv").write_text(f"image,x0,y0,x1,y1\na\\{name},1,1,9,9\n")
        [sample] = read_all(Table(root=str(tmp_path))).values()
        assert len(sample.boxes) == 1
    create_video(tmp_path / "videos", "csv", 2, NFC)
    table = next((tmp_path / "videos").glob("*.csv"))
    table.write_text(table.read_text().replace(NFC, NFD))
    assert len(VideoBoxes(root=str(tmp_path / "videos"), annotations=table.name).records()) == 2


def test_lists_may_have_a_byte_order_mark_and_another_unicode_form(tmp_path):
    create_samrs(tmp_path)
    folder = tmp_path / "dior"
    first = next((folder / "JPEGImages-trainval").iterdir())
    first.rename(first.with_stem(NFC))
    (folder / "valid.txt").write_text(f"\ufeff{NFD}\n", encoding="utf-8")
    (folder / "train.txt").unlink()
    splits = {r.image_id: r.split for r in Samrs(str(tmp_path), ["sior"]).records()}
    assert splits.pop(f"sior/{NFC}") == "val"
    assert {*splits.values()} == {"train"}
    make, _ = create(tmp_path / "voc", "voc")
    for file in (tmp_path / "voc/ImageSets/Main").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(make().records()) == 3


def test_names_that_differ_only_in_unicode_form_are_refused(tmp_path):
    for name in (NFC, NFD):
        create_image(tmp_path / f"images/{name}.png", (8, 8))
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na,1,1,9,9\n")
    with pytest.raises(
        Exception, match=r"differ only in their Unicode normalisation .*; rename one"
    ):
        Table(root=str(tmp_path)).records()


@pytest.mark.parametrize("encoding", ["gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc-kr"])
def test_xml_in_a_multi_byte_encoding_is_read(encoding, tmp_path):
    name = {"big5": "汽車", "shift_jis": "自動車", "euc-kr": "자동차"}.get(encoding, "汽车")
    text = (
        f'<?xml version="1.0" encoding="{encoding.upper()}"?><annotation><object>'
        f"<name>{name}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        "</annotation>"
    )
    create_image(tmp_path / "JPEGImages/a.png", (20, 20))
    (tmp_path / "Annotations").mkdir()
    file = tmp_path / "Annotations/a.xml"
    file.write_bytes(text.encode(encoding))
    images = Voc(root=str(tmp_path))
    assert [c.name for c in images.categories()] == [name]
    assert len(read_all(images)["a"].boxes) == 1
    file.write_bytes(text.encode(encoding).replace(encoding.upper().encode(), b"utf-8"))
    with pytest.raises(
        Exception, match=r"a\.xml is not XML: it is not UTF-8 \(byte 0x.. in line 1\); "
    ):
        Voc(root=str(tmp_path)).categories()
    file.write_bytes(text.encode(encoding)[:-30] + name.encode(encoding)[:1] + b"</annotation>")
    with pytest.raises(
        Exception, match=r"it declares the encoding .*, but has another; save it as UTF-8"
    ):
        Voc(root=str(tmp_path)).categories()


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_text_with_a_byte_order_mark_is_read(mark, tmp_path):
    for kind in ("coco", "dota"):
        make, path = create(tmp_path / kind, kind)
        before = first_sample(make(), path)
        for file in (p for p in (tmp_path / kind).rglob("*") if p.suffix in (".json", ".txt")):
            file.write_bytes(file.read_text().encode(mark))
        after = first_sample(make(), path)
        assert (len(after.boxes), after.dropped) == (len(before.boxes), ())
    create_video(tmp_path / "v", "bovtext", 2, "x")
    file = next((tmp_path / "v").rglob("*.json"))
    n = len(VideoBoxes(root=str(tmp_path / "v"), annotations="*.json").records())
    file.write_bytes(json.dumps(json.loads(file.read_text())).encode(mark))
    assert len(VideoBoxes(root=str(tmp_path / "v"), annotations="*.json").records()) == n


def test_text_in_another_encoding_is_reported(tmp_path):
    make, path = create(tmp_path, "dota")
    file = next(tmp_path.rglob("P0000.txt"))
    file.write_bytes(file.read_bytes().replace(b"plane", "汽车".encode("gbk"), 1))
    [line] = first_sample(make(), path).dropped
    assert line.endswith("; the file is not in UTF-8; save it as UTF-8")
