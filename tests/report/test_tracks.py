"""The coefficient of variation of a track's mask sizes, against NumPy."""

import csv
import itertools

import numpy as np
import pytest
from tiny_stores import make_boxed_store

from alps.report import write_report, write_statistics
from alps.report.counts.statistics import compute_statistics
from alps.report.counts.tracks import COV_EDGES
from alps.structures import rle
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord

SIZE = (40, 50)


def frame(areas, ignored=()):
    """Masks of so many pixels by track."""
    annotations = [
        Annotation(str(t), "word", (0, 0, 50, 40), track_id=t, ignore=t in ignored) for t in areas
    ]
    boxes, problems = check_boxes(annotations, {"word": 0}, SIZE)
    assert not problems
    flat = np.arange(SIZE[0] * SIZE[1]) < np.array([*areas.values()])[:, None]
    return Masks.from_counts(rle.encode(flat.reshape(-1, *SIZE)), SIZE, boxes=boxes)


def clip(name, frames):
    """Records and masks of a clip; ``frames`` maps a frame's number to `frame` or None."""
    return [
        (ImageRecord(f"{name}/{i:06d}", f"{name}.mp4", "train", 0, name, i), masks)
        for i, masks in frames.items()
    ]


def statistics_of(tmp_path, *clips, **options):
    images = list(itertools.chain(*clips))
    store, scenes = make_boxed_store(tmp_path / "s", images, **options)
    return compute_statistics(store).boxes.tracks, store, scenes


@pytest.mark.parametrize("shard_size", [1, 3, 100])
def test_the_coefficients_are_those_of_numpy(tmp_path, shard_size):
    """Whatever shard a frame is in."""
    rng = np.random.default_rng(0)
    spread = (3, 30, 300, 900)
    areas = {
        name: np.array([rng.integers(1000 - s, 1000 + s, 12) for s in spread]) for name in "ab"
    }
    clips = [
        clip(name, {i: frame(dict(enumerate(row.tolist()))) for i, row in enumerate(rows.T)})
        for name, rows in areas.items()
    ]
    tracks, *_ = statistics_of(tmp_path, *clips, shard_size=shard_size)
    covs = [track.std() / track.mean() for rows in areas.values() for track in rows]
    np.testing.assert_array_equal(tracks.covs, np.histogram(covs, COV_EDGES)[0])
    assert (tracks.tracks, tracks.above, tracks.without) == (8, 0, 0)


def test_large_coefficients_are_left_out_and_counted(tmp_path):
    wild = [1, 1, 1, 1, 2000]
    assert np.std(wild) / np.mean(wild) > 1
    even = [1, 3]  # 0.5
    frames = {i: frame({7: area} | ({8: even[i]} if i < 2 else {})) for i, area in enumerate(wild)}
    tracks, store, scenes = statistics_of(tmp_path, clip("a", frames))
    assert (tracks.above, tracks.without, tracks.covs.sum()) == (1, 0, 1)
    assert tracks.covs[10] == 1  # 0.5 to 0.55
    write_statistics(store, compute_statistics(store))
    with (store.root / "statistics/track_cov.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["runs"]) for row in rows] == [*tracks.covs.tolist(), 1, 0]
    assert [(row["cov_from"], row["cov_to"]) for row in rows[-3:]] == [
        ("0.95", "1"),
        ("1", ""),
        ("", ""),
    ]
    page = write_report(store, scenes).read_text()
    assert "Half of 1 runs of consecutive frames vary by more than 0.5." in page
    assert "Not shown: 1 runs above 1, 0 runs of a single mask" in page


def test_a_gap_ends_a_run(tmp_path):
    """Of an occluded word, of a frame that could not be read, and of a word not to be read."""
    gone = {0: frame({1: 10, 2: 5}), 1: frame({1: 10, 2: 5}), 2: frame({2: 5})}
    back = {3: frame({1: 900, 2: 5}), 4: frame({1: 900, 2: 5})}
    tracks, *_ = statistics_of(tmp_path / "a", clip("a", gone | back))
    assert (tracks.tracks, tracks.covs[0], tracks.covs.sum()) == (2, 3, 3)  # 10 10, 900 900, 5 5 …
    tracks, *_ = statistics_of(tmp_path / "b", clip("a", gone | {2: None} | back))
    assert (tracks.tracks, tracks.covs[0], tracks.covs.sum()) == (2, 4, 4)
    hidden = {2: frame({1: 500, 2: 5}, ignored=[1])}
    tracks, *_ = statistics_of(tmp_path / "c", clip("a", gone | hidden | back))
    assert (tracks.tracks, tracks.covs[0], tracks.covs.sum()) == (2, 3, 3)


def test_runs_end_with_their_clip(tmp_path):
    clips = [clip(name, {0: frame({1: n}), 1: frame({1: n})}) for name, n in (("a", 5), ("b", 999))]
    tracks, *_ = statistics_of(tmp_path, *clips)
    assert (tracks.tracks, tracks.covs[0], tracks.above, tracks.without) == (2, 2, 0, 0)


def test_a_clip_annotated_in_every_fifth_frame_has_runs(tmp_path):
    frames = {i: frame({1: 100}) for i in (0, 5, 10, 20, 25)}
    tracks, *_ = statistics_of(tmp_path, clip("a", frames))
    assert (tracks.tracks, tracks.covs.sum()) == (1, 2)


def test_what_has_no_coefficient(tmp_path):
    """One mask, or none with a pixel; but a mask that vanishes has one."""
    frames = {0: frame({1: 9, 2: 0, 3: 8}), 1: frame({2: 0, 3: 0})}
    tracks, *_ = statistics_of(tmp_path, clip("a", frames))
    assert (tracks.without, tracks.covs[-1], tracks.covs.sum()) == (2, 1, 1)  # (8, 0) has exactly 1


def test_stills_have_none(tmp_path):
    tracks, store, _ = statistics_of(tmp_path, [(ImageRecord("a", "a.png"), frame({1: 5}))])
    assert tracks.tracks == 0
    write_statistics(store, compute_statistics(store))
    assert not (store.root / "statistics/track_cov.csv").exists()
