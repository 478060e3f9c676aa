"""Masks drawn over videos and stills; what was encoded is decoded again."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from alps.errors import DatasetNotFound
from alps.export import export_store
from alps.export.instances import read_instances
from alps.export.mp4 import writing_mp4
from alps.export.overlay import GRAY, TRACK_COLORS, draw
from alps.images.files.frames import frame_rate
from alps.structures.records import ImageRecord
from tests.export.stores import SIZE, boxed_store, video_store
from tests.videos import draw_video, write_video


def decode(path):
    """The frames, the times at which they are shown, and the stream."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = list(file.decode(stream))
        return [f.to_ndarray(format="rgb24") for f in frames], [f.time for f in frames], stream


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return video_store(tmp_path_factory.mktemp("video") / "store")


def test_videos_are_encoded_for_browsers(store, tmp_path):
    """H.264, 4:2:0 and the index in front: what HTML's video element takes everywhere."""
    tally = export_store(store, "overlay", tmp_path / "out")
    assert (tally.images, tally.groups) == (6, {"videos": 2})
    files = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/**/*.*")}
    assert files == {"a.mp4", "city/b.mp4"}
    raw = (tmp_path / "out/a.mp4").read_bytes()
    assert 0 < raw.index(b"moov") < raw.index(b"mdat")
    frames, times, stream = decode(tmp_path / "out/a.mp4")
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == 25
    assert times == pytest.approx([0, 1 / 25, 2 / 25])
    assert {frame.shape for frame in frames} == {(*SIZE, 3)}


def test_a_track_keeps_its_colour_and_ignored_masks_are_gray(store):
    ground = (30, 60, 180)
    pixels = np.full((*SIZE, 3), ground, np.uint8)
    first, second, third, *_ = (draw(pixels, i, {}) for i in read_instances(store))
    inside = (slice(14, 17), slice(8, 16))  # of track 9, away from rims and text
    expected = 0.55 * np.array(ground) + 0.45 * np.array(TRACK_COLORS[9])
    for picture in (first, third):
        assert (np.abs(picture[inside] - expected) < 1).all()
    assert (np.abs(second[inside] - (0.55 * 90 + 0.45 * np.array(GRAY))) < 1).all()
    assert (first[32:, :20] == ground).all()  # nothing is drawn where nothing lies


def test_overlays_do_not_depend_on_shards(store, tmp_path):
    shards = video_store(tmp_path / "store", shard_size=1)
    export_store(store, "overlay", tmp_path / "once")
    export_store(shards, "overlay", tmp_path / "twice")
    for name in ("a.mp4", "city/b.mp4"):
        once, twice = (decode(tmp_path / out / name)[0] for out in ("once", "twice"))
        assert len(once) == len(twice) == 3
        assert np.abs(np.stack(once).astype(int) - np.stack(twice)).mean() < 1


def test_gaps_between_frames_keep_their_duration(tmp_path):
    with writing_mp4(tmp_path / "x.mp4", (17, 33), Fraction(10)) as add:
        for number in (0, 1, 5):
            add(np.full((17, 33, 3), 40 * number, np.uint8), number)
    frames, times, _ = decode(tmp_path / "x.mp4")
    assert times == pytest.approx([0, 0.1, 0.5])
    assert {frame.shape for frame in frames} == {(18, 34, 3)}  # odd sides get another row
    for frame, number in zip(frames, (0, 1, 5), strict=True):
        assert np.abs(frame.astype(int) - 40 * number).max() <= 4


def test_the_frame_rate_is_that_of_the_video(tmp_path):
    frames = draw_video(25).frames
    record = ImageRecord("x/000000", "x.mp4", video_id="x", frame_index=0)
    write_video(tmp_path / "x.mp4", frames, times=[80 * i for i in range(25)])
    # A frame every 80 ms; the last one is shown for half as long.
    assert float(frame_rate(tmp_path, record)) == pytest.approx(25 / (24 * 0.08 + 0.04))
    (tmp_path / "x").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "x/1.png")
    for name in ("x/1.png", "x"):
        assert frame_rate(tmp_path, ImageRecord("x/000000", name, frame_index=0)) is None


def test_missing_and_changed_frames_are_logged_and_counted(tmp_path, caplog):
    store = video_store(tmp_path / "store")
    frames = tmp_path / "store_frames"
    (frames / "a/2.png").unlink()
    Image.new("RGB", (10, 10)).save(frames / "a/3.png")
    tally = export_store(store, "overlay", tmp_path / "out")
    assert tally.skipped == {"missing or changed images": 2}
    assert tally.images == 4
    assert "skipped a/000001: " in caplog.text
    assert (
        "a/000002: it is 10 by 10 px, but was 60 by 40 px when it was labelled; restore"
        in caplog.text
    )
    assert len(decode(tmp_path / "out/a.mp4")[0]) == 1


def test_moved_images_are_read_from_the_given_folder(tmp_path):
    store = video_store(tmp_path / "store")
    (tmp_path / "store_frames").rename(tmp_path / "moved")
    with pytest.raises(DatasetNotFound, match=r"are not in .*/store_frames .*no a/1.png\); pass "):
        export_store(store, "overlay", tmp_path / "out")
    tally = export_store(store, "overlay", tmp_path / "out", images=str(tmp_path / "moved"))
    assert tally.images == 6


def test_still_images_are_drawn_in_the_colours_of_their_classes(tmp_path):
    store = boxed_store(tmp_path / "store")
    for image_id in ("a", "b", "sub/c", "sea"):
        path = tmp_path / f"moved/images/{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(path)
    tally = export_store(store, "overlay", tmp_path / "out", images=str(tmp_path / "moved"))
    assert (tally.images, +tally.groups) == (4, {})
    files = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/**/*.*")}
    assert files == {"a.jpg", "b.jpg", "sub/c.jpg", "sea.jpg"}
    with Image.open(tmp_path / "out/a.jpg") as image:
        found = np.array(image)[9:14, 8:14].reshape(-1, 3).mean(0)
    ship = store.categories()[0].color
    assert np.abs(found - (0.55 * 90 + 0.45 * np.array(ship))).max() < 8
