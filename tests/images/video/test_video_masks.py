import csv

import numpy as np
import pytest

from alps.assign.category import ByCategory
from alps.evaluation.objects import score_instances
from alps.images.video.tracked import VideoMasks
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.box import BoxMasks
from alps.protocols import InstanceSet
from alps.structures import rle
from tests.fakes import BoxSegmenter
from tests.videos import create_video

N = 4


@pytest.fixture
def root(tmp_path):
    return tmp_path


def with_masks(root, change=lambda counts, row: counts):
    """A generated video with what is to be seen of each word in the column ``counts``."""
    drawn = create_video(root, "csv", N)
    with (root / "boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        mask = drawn.masks[int(row["frame"]), int(row["track"]) - 1]
        row["counts"] = change(rle.encode(mask[None])[0].decode(), row)
    with (root / "boxes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return drawn


def test_true_masks_of_frames_are_read(root):
    drawn = with_masks(root)
    images = VideoMasks(root=str(root))
    assert isinstance(images, InstanceSet)
    assert images.has_instances
    for record in images.records():
        boxes = images.read(record).boxes
        masks = images.read_instances(record, boxes, (120, 160))
        assert masks.boxes.track_id.tolist() == [1, 2, 3]
        np.testing.assert_array_equal(masks.to_array(), drawn.masks[record.frame_index])


def test_some_objects_may_have_masks(root, caplog):
    def change(counts, row):
        if row["frame"] == "1" and row["track"] == "2":
            return counts[:-2]
        return counts if row["frame"] in ("0", "1") else ""

    with_masks(root, change)
    images = VideoMasks(root=str(root))
    assert images.has_instances
    found = []
    for record in images.records():
        boxes = images.read(record).boxes
        found.append(images.read_instances(record, boxes, (120, 160)).boxes.track_id.tolist())
    assert found == [[1, 2, 3], [1, 3], [], []]
    [line] = caplog.messages
    assert line.startswith("skipped a ground-truth mask: boxes.csv row 5: its counts ")


@pytest.mark.parametrize("kind", ["csv", "icdar", "bovtext"])
def test_annotations_without_masks_have_no_instances(root, kind):
    create_video(root, kind, N)
    images = VideoMasks(root=str(root), annotations="*_GT.xml" if kind == "icdar" else "*.*[nv]")
    assert len(images.records()) == N
    assert not images.has_instances


def test_the_masks_of_a_store_of_frames_are_scored(root):
    """As SAMText has it: IoU of every word that is not ignored with what is to be seen of it."""
    drawn = with_masks(root / "videos")
    images = VideoMasks(root=str(root / "videos"))
    store, _ = label(
        image_set=images,
        masks=BoxMasks(segmenter=BoxSegmenter()),
        features=None,
        assign=ByCategory(images=images),
        engine=LocalEngine(threads=1),
        root=root / "store",
        name="video_seg",
        config="",
    )
    scores = score_instances(store, images)
    found = {
        i: m.to_array()
        for shard in range(len(store.plan))
        for i, m in store.shard(shard).masks().items()
    }
    expected = []
    for t in range(N):
        for a, b in zip(found[f"Video_1/{t:06d}"][:2], drawn.masks[t], strict=False):
            expected.append((a & b).sum() / (a | b).sum())
    np.testing.assert_allclose(scores.iou, expected)
    assert (len(scores.iou), scores.ignored, scores.unknown) == (2 * N, N, 0)
