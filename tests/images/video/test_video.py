import json
from dataclasses import replace

import numpy as np
import pytest

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.files.text import parse_integer
from alps.images.video.tracked import VideoBoxes
from alps.protocols import ImageSet
from alps.store.plan import prepare
from tests.videos import FORMATS, create_video, draw_video, write_frames, write_icdar, write_video

N = 12


def open_set(root, annotations="*_GT.xml", **more):
    return VideoBoxes(root=str(root), annotations=annotations, **more)


def pattern(kind):
    return FORMATS[kind][0].format("*")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """The same video in each format."""
    root = tmp_path_factory.mktemp("videos")
    drawn = {kind: create_video(root / kind, kind, N) for kind in FORMATS}
    return root, drawn["icdar"]


def test_a_frame_is_an_image(videos):
    root, drawn = videos
    images = open_set(root / "icdar", name="mine", split="val")
    assert isinstance(images, ImageSet)
    records = images.records()
    assert [r.image_id for r in records] == [f"Video_1/{i:06d}" for i in range(N)]
    first = records[0]
    assert (first.file_name, first.split, first.video_id) == ("Video_1.mp4", "val", "Video_1")
    assert [r.frame_index for r in records] == list(range(N))
    assert [(c.id, c.name) for c in images.categories()] == [(0, "text")]
    for record in records:
        sample = images.read(record)
        boxes = sample.boxes
        quads = drawn.quads[record.frame_index]
        assert np.abs(sample.image.astype(int) - drawn.frames[record.frame_index]).mean() < 6
        np.testing.assert_allclose(boxes.quad.reshape(-1, 4, 2), quads, atol=1e-5)
        np.testing.assert_allclose(boxes.xyxy[:, :2], quads.min(1).clip(0), atol=1e-5)
        assert boxes.track_id.tolist() == [1, 2, 3]
        assert boxes.text == ("ALPS", "track", None)
        assert boxes.ignore.tolist() == [False, False, True]
        assert sample.dropped == ()


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "icdar"])
def test_all_formats_give_the_same_boxes(videos, kind):
    root, _ = videos
    ours, other = open_set(root / kind, pattern(kind)), open_set(root / "icdar")
    assert ours.records() == other.records()
    assert ours.categories() == other.categories()
    for record in ours.records():
        a, b = ours.read(record), other.read(record)
        np.testing.assert_array_equal(a.image, b.image)
        for field in a.boxes.__slots__:
            np.testing.assert_array_equal(getattr(a.boxes, field), getattr(b.boxes, field))


@pytest.mark.parametrize("first", [0, 1])
def test_folders_of_frames_are_videos(tmp_path, first):
    drawn = draw_video(N)
    write_frames(tmp_path / "frames/sport/Video_1", drawn.frames, first=first)
    (tmp_path / "gt").mkdir()
    write_icdar(tmp_path / "gt/Video_1_GT.xml", drawn.quads)
    images = open_set(tmp_path, videos="frames")
    records = images.records()
    assert records[3].image_id == "sport/Video_1/000003"
    assert records[3].file_name == f"frames/sport/Video_1/{3 + first}.png"
    np.testing.assert_array_equal(images.read(records[3]).image, drawn.frames[3])
    (tmp_path / records[3].file_name).unlink()
    again = open_set(tmp_path, videos="frames")
    assert len(again.records()) == N
    with pytest.raises(ImageError, match=r"Video_1 has 11 frames, .*; there is no frame 3 "):
        again.read(again.records()[3])
    assert again.read(again.records()[4]).boxes.track_id.tolist() == [1, 2, 3]


def test_frames_of_a_video_stay_together_in_a_plan(tmp_path):
    for i, name in enumerate(("Video_10", "Video_9")):
        create_video(tmp_path / "videos", "icdar", N, name, seed=i)
    images = open_set(tmp_path / "videos")
    records = images.records()
    store = prepare(
        tmp_path / "store",
        name="x",
        images={},
        records=records[::-1],
        identities={},
        num_classes=1,
        ignore_index=255,
        versions={},
        shard_size=5,
    )
    planned = [record for shard in store.plan for record in shard]
    assert [(r.video_id, r.frame_index) for r in planned] == [
        (video, i) for video in ("Video_10", "Video_9") for i in range(N)
    ]
    assert planned == sorted(records, key=lambda r: r.image_id)


def edit(root, old, new, count=1):
    path = root / "Video_1_GT.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, count))


@pytest.fixture
def one(tmp_path):
    create_video(tmp_path, "icdar", 4)
    return tmp_path


def test_illegible_words_are_ignored(one):
    edit(one, 'Quality="MODERATE"', 'Quality="LOW"')
    images = open_set(one)
    first, second = images.records()[:2]
    assert images.read(first).boxes.ignore.tolist() == [True, False, True]
    assert images.read(first).boxes.text == ("ALPS", "track", None)
    assert images.read(second).boxes.ignore.tolist() == [False, False, True]


def test_frames_annotated_as_empty_are_images_and_unannotated_frames_are_not(one):
    text = (one / "Video_1_GT.xml").read_text()
    begin, end = text.index('<frame ID="2"'), text.index('<frame ID="3"')
    (one / "Video_1_GT.xml").write_text(text[:begin] + '<frame ID="2" />' + text[end:])
    images = open_set(one)
    assert [r.frame_index for r in images.records()] == [0, 1, 2, 3]
    sample = images.read(images.records()[1])
    assert len(sample.boxes) == 0
    assert sample.dropped == ()
    (one / "Video_1_GT.xml").write_text(text[:begin] + text[end:])
    assert [r.frame_index for r in open_set(one).records()] == [0, 2, 3]


@pytest.mark.parametrize(
    ("old", "new", "line", "left"),
    [
        (
            'ID="2" L',
            'ID="1" L',
            "frame 1 object 2: track 1 has more than one box in this frame",
            [1, 3],
        ),
        ('ID="2" L', 'ID="b" L', "frame 1 object 2: track ID 'b', expected an integer", [1, 3]),
        ('ID="2" L', 'ID="-2" L', "frame 1 object 2: track ID '-2', expected an int", [1, 3]),
        ('<Point x="', '<Point x="a', "frame 1 object 1: coordinates nan ", [2, 3]),
        ('<Point x="', '<Pt x="', "frame 1 object 1: 6 coordinates, expected 4", [2, 3]),
    ],
)
def test_an_unusable_object_is_reported_and_the_others_kept(one, old, new, line, left):
    edit(one, old, new)
    images = open_set(one)
    first, second = (images.read(record) for record in images.records()[:2])
    assert len(first.dropped) == 1
    assert first.dropped[0].startswith(f"Video_1_GT.xml {line}")
    assert first.boxes.track_id.tolist() == left
    assert second.boxes.track_id.tolist() == [1, 2, 3]


def test_a_mix_of_fractions_and_pixels_is_reported(tmp_path):
    create_video(tmp_path, "bovtext", 2)
    path = tmp_path / "Video_1.json"
    frames = json.loads(path.read_text())
    points = frames["1"][1]["points"]
    frames["1"][1]["points"] = [v / (160, 120)[i % 2] for i, v in enumerate(points)]
    frames["2"][0]["points"] = points[:7]
    frames["2"][1] = "word"
    frames["2"][2]["points"][0] = float("nan")
    path.write_text(json.dumps(frames))
    images = open_set(tmp_path, "*.json")
    first, second = (images.read(record) for record in images.records())
    assert first.boxes.track_id.tolist() == [1, 3]
    assert "look like fractions of the sides, expected pixels" in first.dropped[0]
    assert len(second.boxes) == 0
    assert [line.removeprefix("Video_1.json frame 2 object ")[:14] for line in second.dropped] == [
        "2: no points, ",
        "1: 7 coordinat",
        "3: coordinates",
    ]


def test_a_frame_without_a_number_is_reported_with_the_previous_one(one):
    edit(one, '<frame ID="2"', '<frame ID="two"')
    images = open_set(one)
    assert [r.frame_index for r in images.records()] == [0, 2, 3]
    assert images.read(images.records()[0]).dropped == (
        "Video_1_GT.xml <frame> after frame 1: no ID from 1; the objects of the frame are skipped",
    )


def test_a_frame_number_beyond_the_end_is_an_error(one):
    edit(one, '<frame ID="4"', '<frame ID="9"')
    images = open_set(one)
    records = images.records()
    assert records[-1].frame_index == 8
    with pytest.raises(ImageError, match=r"Video_1\.mp4 has 4 frames, there is no frame 8 "):
        images.read(records[-1])
    assert len(images.read(records[0]).boxes) == 3


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "icdar",
            r"Video_2_GT\.xml is not a complete XML file: .*; it may be truncated, download it "
            r"again",
        ),
        (
            "bovtext",
            r"Video_2\.json is not a complete JSON file: .*; it may be truncated, download it "
            r"again",
        ),
    ],
)
def test_truncated_annotations_cost_one_video_and_one_line(tmp_path, kind, message):
    for name in ("Video_1", "Video_2"):
        create_video(tmp_path, kind, 3, name)
    path = tmp_path / FORMATS[kind][0].format("Video_2")
    path.write_bytes(path.read_bytes()[:-200])
    images = open_set(tmp_path, pattern(kind))
    ids = [record.image_id for record in images.records()]
    assert ids == [*(f"Video_1/{i:06d}" for i in range(3)), "Video_2/000000"]
    with pytest.raises(ImageError, match=message):
        images.read(images.records()[-1])
    assert len(images.read(images.records()[0]).boxes) == 3


def test_other_formats_are_refused(one):
    (one / "Video_1_GT.xml").write_text("<annotation></annotation>")
    with pytest.raises(ImageError, match="has another format: <annotation>, expected <frames>"):
        open_set(one).read(open_set(one).records()[0])
    (one / "Video_1.json").write_text('{"1": {"points": []}}')
    images = open_set(one, "*.json")
    with pytest.raises(ImageError, match="another format: expected a list of words for each frame"):
        images.read(images.records()[0])
    (one / "Video_1.txt").write_text("")
    with pytest.raises(LabelError, match=r"Video_1\.txt has an unknown format: expected \.xml \.j"):
        open_set(one, "*.txt").records()


def test_the_error_names_what_is_missing(one):
    with pytest.raises(DatasetNotFound) as error:
        open_set(one, "*.json", url="https://example.org").records()
    assert str(error.value) == (
        f"no *.json under {one}: found 2 entries (Video_1.mp4, Video_1_GT.xml); download the "
        f"dataset from "
        "https://example.org, or set dataset.root to its folder and "
        "dataset.annotations to its files"
    )
    (one / "Video_2_GT.xml").write_bytes((one / "Video_1_GT.xml").read_bytes())
    images = open_set(one)
    assert len(images.records()) == 4
    [finding] = map(str, images.findings())
    assert finding == (
        "1 of 2 annotated videos are not under ./ (first: Video_2); add them, or set "
        "dataset.videos to their folder; until then they are skipped"
    )
    (one / "Video_1.mp4").rename(one / "other.mp4")
    with pytest.raises(DatasetNotFound) as error:
        open_set(one).records()
    assert str(error.value) == (
        f"none of the 2 annotated videos (first: Video_1) is among the 1 under {one} (other.mp4); "
        "expected Video_1.mp4 or a folder Video_1/ of frames, at any depth"
    )


def test_ambiguous_names_are_refused(one):
    write_frames(one / "frames/Video_1", draw_video(4).frames)
    assert open_set(one, videos="frames").records()[0].image_id == "Video_1/000000"
    assert (
        open_set(one).records()[0].file_name == "Video_1.mp4"
    )  # called so, and not only at the end
    (one / "a").mkdir()
    (one / "Video_1.mp4").rename(one / "a/Video_1.mp4")
    with pytest.raises(LabelError, match=r"match a/Video_1\.mp4 and frames/Video_1 under ") as e:
        open_set(one).records()
    assert "set dataset.videos to the folder of the right videos" in str(e.value)
    (one / "a/Video_1_GT.xml").write_bytes((one / "Video_1_GT.xml").read_bytes())
    with pytest.raises(
        LabelError,
        match=r"Video_1_GT\.xml annotate the same video Video_1; remove one of the files",
    ):
        open_set(one, videos="frames").records()


def test_a_moved_box_changes_the_record(one):
    before = open_set(one).records()
    edit(one, '<Point x="', '<Point x="1')
    after = open_set(one).records()
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert replace(after[0], annotations=before[0].annotations) == before[0]


def test_a_table_may_hold_many_videos(tmp_path):
    drawn = draw_video(3)
    for name in ("a/x.mp4", "b/x.mp4"):
        (tmp_path / name).parent.mkdir()
        write_video(tmp_path / name, drawn.frames)
    rows = ["video,frame,x0,y0,x1,y1,category,track,ignore"]
    rows += [
        "a/x,0,10,10,50,50,word,1,0",
        "b/x.mp4,2,10,10,50,50,sign,,1",
        "a/x,zero,1,2,3,4,word,,",
    ]
    rows += [
        "a/x,1,50,10,10,50,word,1.5,",
        "a/x,1,10,10,50,50,word,,some",
        "a/x,1,10,10,50,50,word,,",
    ]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    images = open_set(tmp_path, "boxes.csv")
    records = images.records()
    assert [r.image_id for r in records] == ["a/x/000000", "a/x/000001", "b/x/000002"]
    assert [c.name for c in images.categories()] == ["sign", "word"]
    first, second, third = map(images.read, records)
    assert third.boxes.category_id.tolist() == [0]
    assert third.boxes.ignore.tolist() == [True]
    assert third.boxes.track_id.tolist() == [-1]
    assert first.dropped == ("boxes.csv row 3: frame 'zero', expected an integer from 0",)
    assert second.dropped == (
        "boxes.csv row 4: track '1.5', expected an integer",
        "boxes.csv row 5: ignore 'some', expected 0 or 1",
    )
    assert len(second.boxes) == 1


def test_a_video_with_two_names_in_a_table_is_refused(tmp_path):
    write_video(tmp_path / "x.mp4", draw_video(2).frames)
    table = tmp_path / "boxes.csv"
    table.write_text("video,frame,x0,y0,x1,y1\nx,0,1,1,9,9\nx.mp4,1,1,1,9,9\n")
    with pytest.raises(
        LabelError, match=r"x and x\.mp4 in the annotations are the same video x\.mp4; use"
    ):
        open_set(tmp_path, "boxes.csv").records()
    table.write_text(table.read_text().replace("x.mp4", "x"))
    assert [r.image_id for r in open_set(tmp_path, "boxes.csv").records()] == [
        "x/000000",
        "x/000001",
    ]


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("7", 7),
        ("7.0", 7),
        (" gt_07 ", 7),
        ("-7", None),
        ("7.5", None),
        ("", None),
        ("9999999999", None),
    ],
)
def test_numbers(word, number):
    assert parse_integer(word) == number
