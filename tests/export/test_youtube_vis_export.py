"""YouTube-VIS files of a store, read the way its authors' ytvos.py and pycocotools do."""

import json
import weakref
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco

from alps.errors import ConfigError
from alps.export import export_store
from alps.export.instances import Instances, Tally
from alps.export.youtube_vis import _annotations, _read_frames
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord
from tests.export.stores import CLIPS, NAMES, SIZE, all_masks, boxed_store, video_store

#: As published: https://competitions.codalab.org/competitions/20128#participate-get-data
VIDEO = {"id", "width", "height", "length", "file_names"}
ANNOTATION = {
    *("id", "video_id", "category_id", "segmentations", "areas", "bboxes", "iscrowd"),
    *("height", "width"),
}


class Reader:
    """What ytvos.py builds: videos, annotations and classes by id, and masks by its `annToMask`."""

    def __init__(self, path):
        raw = json.loads(path.read_text())
        assert raw.keys() == {"info", "videos", "annotations", "categories"}
        self.videos, self.annotations, self.categories = (
            {row["id"]: row for row in raw[name]}
            for name in ("videos", "annotations", "categories")
        )
        assert sum(map(len, (self.videos, self.annotations, self.categories))) == sum(
            len(raw[name]) for name in ("videos", "annotations", "categories")
        )

    def mask(self, annotation, t):
        video = self.videos[annotation["video_id"]]
        rle = annotation["segmentations"][t]
        assert rle["size"] == [video["height"], video["width"]]
        return coco.decode(rle)

    def find(self, name, track_id):
        (video,) = (v["id"] for v in self.videos.values() if v["name"] == name)
        (found,) = (
            a
            for a in self.annotations.values()
            if a["video_id"] == video and a.get("track_id") == track_id
        )
        return found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return video_store(tmp_path_factory.mktemp("video") / "store")


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("youtube_vis")
    tally = export_store(store, "youtube_vis", out)
    assert [path.name for path in out.iterdir()] == ["instances_train.json"]
    return Reader(out / "instances_train.json"), tally


def test_the_keys_are_the_published_ones(exported):
    reader, _ = exported
    assert list(reader.videos) == [1, 2]
    assert list(reader.annotations) == [1, 2, 3, 4]
    for video in reader.videos.values():
        assert video.keys() == VIDEO | {"name"}
        assert (video["height"], video["width"]) == SIZE
        readable = [
            f"{video['name']}/{t + 1}.png"
            for t, f in enumerate(CLIPS[video["name"]])
            if f is not None
        ]
        assert video["file_names"] == readable
        assert video["length"] == len(readable) == 3
    for annotation in reader.annotations.values():
        assert ANNOTATION <= annotation.keys() <= ANNOTATION | {"track_id", "text", "ignores"}
    assert [c["name"] for c in reader.categories.values()] == list(NAMES)


def test_every_mask_is_read_back_at_its_frame_and_track(store, exported):
    reader, tally = exported
    stored = {
        (image_id, int(track)): masks.to_array()[i]
        for image_id, masks in all_masks(store).items()
        for i, track in enumerate(masks.boxes.track_id if masks.boxes else ())
        if masks.area[i]
    }
    found = {}
    for annotation in reader.annotations.values():
        video = reader.videos[annotation["video_id"]]
        for t in range(video["length"]):
            lists = [
                annotation[name][t] for name in ("segmentations", "bboxes", "areas", "ignores")
            ]
            assert len({value is None for value in lists}) == 1
            rle, box, area, _ = lists
            if rle is None:
                continue
            assert area == coco.area(rle)
            assert box == coco.toBbox(rle).tolist()
            key = f"{video['name']}/{t:06d}", annotation.get("track_id", -1)
            found[key] = reader.mask(annotation, t)
    assert found.keys() == stored.keys()
    for key, mask in stored.items():
        np.testing.assert_array_equal(found[key], mask)
    assert tally.masks == len(stored) == 7
    assert tally.images == 6
    assert tally.skipped["empty"] == 2
    assert tally.groups == {"videos": 2, "tracks": 3, "masks without a track": 1}


def test_a_track_has_one_class_and_text_and_is_a_crowd_if_fully_ignored(exported):
    reader, _ = exported
    word, gray = reader.find("a", 9), reader.find("a", 4)
    assert (word["iscrowd"], word["ignores"], word["text"]) == (0, [0, 1, 0], "ALPS")
    assert (gray["iscrowd"], gray["ignores"]) == (1, [1, None, 1])
    assert gray["segmentations"][1] is None
    assert "text" not in gray
    alone = reader.find("a", None)
    assert [a is None for a in alone["areas"]] == [True, False, True]
    assert alone["text"] == "é"
    assert {a["category_id"] for a in reader.annotations.values()} == {0}


def frame(t, classes, boxes=None, size=(4, 4)):
    masks = replace(Masks.from_array(np.ones((len(classes), *size), bool)), boxes=boxes)
    record = ImageRecord(f"v/{t:06d}", "v.mp4", video_id="v", frame_index=t)
    return Instances(t + 1, record, masks, np.array(classes), np.zeros(len(classes), bool))


def test_a_track_has_the_most_frequent_class_of_its_masks(store):
    boxes = all_masks(store)["a/000000"].boxes
    clip = [frame(t, [c, 2], boxes) for t, c in enumerate((1, 0, 1, 0, 1))]
    rows = _annotations(clip, Tally())
    assert {row["track_id"]: row["category_id"] for row in rows} == {9: 1, 4: 2}


def test_masks_without_a_class_or_of_another_size_are_skipped_and_counted():
    tally = Tally()
    clip = _read_frames([frame(0, [0, -1]), frame(1, [1], size=(5, 4)), frame(2, [1])], tally)
    assert +tally.skipped == {"unlabelled": 1, "in frames that differ in size from the first": 1}
    rows = _annotations(clip, tally)
    assert [[a is not None for a in row["areas"]] for row in rows] == [
        [True, False, False],
        [False, False, True],
    ]
    assert tally.groups["masks without a track"] == 2


def test_frames_of_a_video_file_are_named_as_if_extracted(tmp_path):
    store = video_store(tmp_path / "store", video_files=True)
    export_store(store, "youtube_vis", tmp_path / "out")
    reader = Reader(tmp_path / "out/instances_train.json")
    assert reader.videos[2]["file_names"] == [f"city/b/{t:06d}.png" for t in range(3)]


def test_one_clip_is_in_memory_at_a_time(store, tmp_path, monkeypatch):
    """When the second clip comes, the first is gone, whatever the shards."""
    alive = []

    def take(frames, tally):
        assert all(reference() is None for reference in alive)
        clip = _read_frames(frames, tally)
        alive.extend(weakref.ref(frame.masks.area) for frame in clip)
        return clip

    monkeypatch.setattr("alps.export.youtube_vis._read_frames", take)
    export_store(LabelStore(store.root), "youtube_vis", tmp_path / "out")
    assert len(alive) == 6


def test_still_images_are_refused(tmp_path):
    store = boxed_store(tmp_path / "store")
    with pytest.raises(ConfigError, match=r"images that are not frames of a video, .* layout coco"):
        export_store(store, "youtube_vis", tmp_path / "out")
    assert Counter(path.name for path in tmp_path.iterdir()) == {"store": 1}
