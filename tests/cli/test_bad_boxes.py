"""Annotations as they go wrong, through all of `label`: a line each, nothing else lost."""

import logging
import logging.handlers
import re

import pytest

from alps.assign.category import ByCategory
from alps.images.boxes.table import Table
from alps.images.boxes.voc import Voc
from alps.images.video.tracked import VideoBoxes
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.box import BoxMasks
from alps.store.counts import count
from tests.box_formats import create_voc
from tests.factories import create_images
from tests.fakes import BoxSegmenter
from tests.videos import create_video, draw_video, write_video

STILLS = ("sound", "outside", "nan", "inverted", "unknown", "mixed", "fractions", "cut")
SOUND = 4  # objects of an image


def run(root, images):
    """The store, and the status of each image."""
    store, _ = label(
        image_set=images,
        masks=BoxMasks(segmenter=BoxSegmenter()),
        features=None,
        assign=ByCategory(images=images),
        engine=LocalEngine(threads=1),
        root=root,
        name="bad_seg",
        config="",
    )
    statuses = store.images()
    return store, {status.image_id: status for status in statuses}


def edge(text, name, value):
    """The first box with another edge."""
    return re.sub(rf"<{name}>[^<]*</{name}>", f"<{name}>{value}</{name}>", text, count=1)


def box(text, *xyxy, count=1):
    """The first boxes with other edges."""
    names = ("xmin", "ymin", "xmax", "ymax")
    new = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, xyxy, strict=True))
    pattern = r"<bndbox>.*?</bndbox>"
    return re.sub(pattern, f"<bndbox>{new}</bndbox>", text, count=count)


CHANGES = {
    "outside": lambda text: box(text, 500, 10, 540, 30),
    "nan": lambda text: edge(text, "xmax", "NaN"),
    "inverted": lambda text: box(text, 60, 10, 20, 30),
    "unknown": lambda text: text.replace("<name>person<", "<name>dog<", 1),
    "mixed": lambda text: box(text, 0.25, 0.25, 0.5, 0.75),
    "fractions": lambda text: box(text, 0.25, 0.25, 0.5, 0.75, count=0),
    "cut": lambda text: text[:-200],
}
TOLD = {
    "outside": "499 9 540 30 lies outside the image of 128 by 96 px",
    "nan": "coordinates .* nan .* are not all numbers",
    "inverted": "59 9 20 30 is inverted, expected x0 y0 x1 y1 with x0 < x1, y0 < y1",
    "unknown": "category 'dog' is not one of the 2: person, chair",
    "mixed": "0.25 0.25 0.5 0.75 look like fractions of the sides, expected pixels",
}


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    """A store of Pascal VOC of which all but one file are broken, each in its way."""
    root = tmp_path_factory.mktemp("stills")
    create_voc(root / "voc", len(STILLS))
    for i, fault in enumerate(STILLS[1:], 1):
        path = root / f"voc/Annotations/{i:06}.xml"
        path.write_text(CHANGES[fault](path.read_text()))
    handler = logging.handlers.BufferingHandler(1000)
    logging.getLogger("alps").addHandler(handler)
    images = Voc(root=str(root / "voc"), classes=["person", "chair"])
    store, statuses = run(root / "store", images)
    logging.getLogger("alps").removeHandler(handler)
    messages = [record.getMessage() for record in handler.buffer]
    findings = [m for m in messages if m.startswith("voc: ")]
    assert [finding.kind for finding in store.findings()] == [
        "unreadable_annotations",
        "unknown_classes",
        "duplicate_annotations",
    ]
    assert findings == [f"voc: {finding}" for finding in store.findings()]
    messages = [m for m in messages if m not in findings]
    return store, dict(zip(STILLS, statuses.values(), strict=True)), messages


@pytest.mark.parametrize("fault", TOLD)
def test_an_object_that_cannot_be_used_costs_one_line_and_itself(stills, fault):
    store, statuses, messages = stills
    image_id = statuses[fault].image_id
    [line] = [m for m in messages if image_id in m]
    assert re.fullmatch(
        f"dropped a box of {image_id}: {image_id}.xml object 1: {TOLD[fault]}", line
    )
    assert (statuses[fault].status, statuses[fault].dropped) == ("ok", 1)
    assert statuses[fault].n_masks == SOUND - 1
    assert store.masks(image_id).boxes.object_id.tolist() == [1, 2, 3]


def test_a_file_of_fractions_loses_its_boxes_and_keeps_its_image(stills):
    store, statuses, messages = stills
    status = statuses["fractions"]
    lines = [m for m in messages if status.image_id in m]
    assert len(lines) == SOUND
    assert all("look like fractions of the sides, expected pixels" in line for line in lines)
    assert (status.status, status.n_masks, status.dropped) == ("empty", 0, SOUND)
    [record] = [r for shard in store.plan for r in shard if r.image_id == status.image_id]
    assert (store.root / f"ann/{record.split}/{status.image_id}.png").exists()


def test_a_file_cut_short_costs_its_image_and_one_line(stills):
    _, statuses, messages = stills
    status = statuses["cut"]
    [line] = [m for m in messages if status.image_id in m]
    assert re.match(
        rf"skipped JPEGImages/{status.image_id}.jpg: .*{status.image_id}.xml is not a com", line
    )
    assert line.endswith("it may be truncated, download it again")
    assert (status.status, status.n_masks) == ("failed", 0)


def test_nothing_else_is_lost(stills):
    store, statuses, _ = stills
    counts = count(store)
    assert (counts.ok, counts.empty, counts.failed) == (6, 1, 1)
    assert counts.masks == SOUND + 5 * (SOUND - 1)
    assert counts.dropped == 5 + SOUND
    assert (statuses["sound"].n_masks, statuses["sound"].dropped) == (SOUND, 0)


def test_a_table_with_bad_rows(tmp_path, caplog):
    create_images(tmp_path / "images", 3)
    rows = [
        "image,x0,y0,x1,y1,category",
        "image_0,10,10,40,40,ship",
        "image_0,0.1,0.2,0.3,0.4,ship",
    ]
    rows += [f"image_1,{i},10,nan,40,ship" for i in range(7)] + [
        "image_1,10,10,40,40,car",
        "image_1,5",
    ]
    rows += ["image_2,1,1,40,30,ship"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    _, statuses = run(tmp_path / "store", Table(root=str(tmp_path), classes=["ship"]))
    assert [(s.status, s.n_masks, s.dropped) for s in statuses.values()] == [
        ("ok", 1, 1),
        ("empty", 0, 8),
        ("ok", 1, 0),
    ]
    told = [m for m in caplog.messages if "image_1" in m]
    assert len(told) == 6  # five of eight, and how many more
    assert told[0] == (
        "dropped a box of image_1: boxes.csv row 3: coordinates 0 10 nan 40 are not all numbers"
    )
    assert told[-1] == "dropped 3 more of image_1"
    assert any("skipped 1 of 12 rows of" in m for m in caplog.messages)


def test_videos_with_bad_annotations(tmp_path, caplog):
    """Each of them loses what is bad, and no frame more."""
    root = tmp_path / "videos"
    for name in ("cut", "ends", "past", "twice"):
        create_video(root, "icdar", 3, name)

    def edit(name, old, new):
        path = root / f"{name}_GT.xml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    path = root / "cut_GT.xml"
    path.write_bytes(path.read_bytes()[:-300])
    write_video(root / "ends.mp4", draw_video(3).frames[:2])
    edit("past", '<frame ID="3"', '<frame ID="30"')
    edit("twice", 'ID="2" Language', 'ID="1" Language')
    store, statuses = run(tmp_path / "store", VideoBoxes(root=str(root), annotations="*_GT.xml"))
    assert {i: (s.status, s.n_masks, s.dropped) for i, s in statuses.items()} == {
        "cut/000000": ("failed", 0, 0),
        "ends/000000": ("ok", 3, 0),
        "ends/000001": ("ok", 3, 0),
        "ends/000002": ("failed", 0, 0),
        "past/000000": ("ok", 3, 0),
        "past/000001": ("ok", 3, 0),
        "past/000029": ("failed", 0, 0),
        "twice/000000": ("ok", 2, 1),
        "twice/000001": ("ok", 3, 0),
        "twice/000002": ("ok", 3, 0),
    }
    for message in (
        r"skipped cut\.mp4: .*cut_GT\.xml is not a complete XML file: .*; it may be truncated, "
        r"download it .*",
        r"skipped ends\.mp4: .* has 2 frames, there is no frame 2 \(counted from 0\); its annot.*",
        r"skipped past\.mp4: .* has 3 frames, there is no frame 29 \(counted from 0\); its annot.*",
        r"dropped a box of twice/000000: twice_GT\.xml frame 1 object 2: track 1 has more than.*",
    ):
        assert sum(bool(re.fullmatch(message, m)) for m in caplog.messages) == 1
    [finding] = [m for m in caplog.messages if m.startswith("video: ")]
    assert finding.startswith(
        "video: the annotations of 1 of 4 videos cannot be read (first: cut_GT.xml is not a "
        "complete XML"
    )
    assert len(caplog.messages) == 5
    masks = {i: m for n in range(len(store.plan)) for i, m in store.shard(n).masks().items()}
    assert masks["twice/000000"].boxes.track_id.tolist() == [1, 3]
