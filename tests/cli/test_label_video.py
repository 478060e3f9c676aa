"""Videos through the pipeline: the same store whichever format they came in, and how good it is."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from alps.assign.category import ByCategory
from alps.images.files.frames import VideoFile
from alps.images.video.tracked import VideoBoxes
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.box import BoxMasks
from alps.sam.load import load_segmenter
from alps.structures import rle
from tests.fakes import Ellipses
from tests.videos import FORMATS, create_video, write_frames, write_table

N = 6


@pytest.fixture(scope="module", autouse=True)
def no_report():
    """The pages are made of the tables that are compared, and take longer than these."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_report", "write_statistics"):
            patch.setattr(f"alps.labelling.pipeline.{name}", lambda *arguments, **more: None)
        yield


def run(root, images, segmenter=None):
    store, _ = label(
        image_set=images,
        masks=BoxMasks(segmenter=segmenter or Ellipses(), best=False),  # as in SAMText
        features=None,
        assign=ByCategory(images),
        engine=LocalEngine(threads=1),
        root=root,
        name="words_seg",
        config="",
        shard_size=4,
    )
    return store


def open_set(root, kind, **more):
    return VideoBoxes(root=str(root), annotations=FORMATS[kind][0].format("*"), **more)


def contents(store, *folders):
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted((store.root / folder).rglob("*.*"))
    }


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same video in each format."""
    root = tmp_path_factory.mktemp("formats")
    for kind in FORMATS:
        create_video(root / kind, kind, N)
    return {kind: run(root / f"{kind}_seg", open_set(root / kind, kind)) for kind in FORMATS}


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "icdar"])
def test_the_same_store_whichever_format_it_came_from(stores, kind):
    """All but store.json, which says where the images lie."""
    folders = ("masks", "images", "labels", "ann")
    ours = contents(stores[kind], *folders)
    assert len(ours) == 2 * 3 + N
    assert ours == contents(stores["icdar"], *folders)
    for name in ("plan.parquet", "categories.json"):
        assert (stores[kind].root / name).read_bytes() == (stores["icdar"].root / name).read_bytes()


def test_a_folder_of_the_same_frames_gives_the_same_rows(stores, tmp_path):
    """The files differ, and so does the fingerprint beside the rows."""
    video = VideoFile(stores["csv"].root.parent / "csv/Video_1.mp4")
    frames = np.stack([video.read(i) for i in range(N)])
    write_frames(tmp_path / "folder/Video_1", frames, first=0)
    drawn = create_video(tmp_path / "again", "csv", N)
    write_table(tmp_path / "folder/boxes.csv", drawn.quads, "Video_1")
    store = run(tmp_path / "folder_seg", open_set(tmp_path / "folder", "csv"))
    for shard in range(len(store.plan)):
        for folder in ("masks", "images", "labels"):
            ours, other = (
                pq.read_table(s.root / f"{folder}/{shard:05d}.parquet")
                for s in (store, stores["csv"])
            )
            if folder == "images":
                ours, other = (table.drop(["sha256"]) for table in (ours, other))
            assert repr(ours.to_pylist()) == repr(other.to_pylist())  # NaN equals itself there
            assert ours.schema.metadata != other.schema.metadata
    assert contents(store, "ann") == contents(stores["csv"], "ann")


def test_tracks_words_and_ignore_are_in_every_row(stores):
    for shard in range(2):
        table = pq.read_table(stores["bovtext"].root / f"masks/{shard:05d}.parquet")
        n = len(table) // 3
        assert table["track_id"].to_pylist() == [1, 2, 3] * n
        assert table["text"].to_pylist() == ["ALPS", "track", None] * n
        assert table["ignore"].to_pylist() == [False, False, True] * n
    assert [r.frame_index for shard in stores["csv"].plan for r in shard] == list(range(N))


def test_real_weights_find_what_is_to_be_seen_of_each_word(tmp_path):
    """Words that turn and grow, and hide each other, more and more."""
    drawn = create_video(tmp_path, "csv", 3)
    store = run(tmp_path / "store", open_set(tmp_path, "csv"), load_segmenter("mobile"))
    found = store.shard(0).masks()
    scores = [
        np.diag(rle.iou(found[f"Video_1/{t:06d}"].counts, rle.encode(true), true.shape[1:]))
        for t, true in enumerate(drawn.masks)
    ]
    assert np.mean(scores) >= 0.94
    assert np.min(scores) >= 0.8  # where a word hides half of another
