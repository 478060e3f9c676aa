"""The YouTube-VIS format (arXiv 1905.04804), COCO for video: one JSON file for each split.

The keys are those of YouTube-VIS's instances.json, as described at
https://competitions.codalab.org/competitions/20128 and as the authors' reader (ytvos.py) expects.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from alps.errors import ConfigError
from alps.export.instances import Instances, Tally, read_clips
from alps.export.rows import file_name, floats, segmentation, write_annotations
from alps.store.label_store import LabelStore
from alps.structures.tiles import box_xyxy_to_xywh

#: The masks of an object, each as (frame position in the clip, mask row in the frame).
Track = list[tuple[int, int]]
T = TypeVar("T")


def write_youtube_vis(store: LabelStore, folder: Path) -> Tally:
    """Write instances_<split>.json, one annotation per line, with one clip in memory at a time.

    An annotation is a track of a video, with the most frequent class of its masks; each mask
    without a track is a separate annotation. A track whose masks are all ignored has ``iscrowd=1``.
    In addition to the published keys, a video has "name", and an annotation has "ignores" (0 or 1
    for each mask) and, if known, "track_id" and "text". A frame of a video file is named
    ``<video>/<frame>.png``, the frame with six digits from 0.

    Returns:
        The numbers of exported images, masks and tracks, and of skipped masks.

    Raises:
        ConfigError: an image is not a frame of a video.
    """
    if any(record.video_id is None for records in store.plan for record in records):
        raise ConfigError(
            f"{store.root} has images that are not frames of a video, as YouTube-VIS requires; "
            "choose the layout coco"
        )
    tally = Tally()
    for split in dict.fromkeys(record.split for records in store.plan for record in records):
        videos: list[dict[str, Any]] = []
        rows = _rows(store, split, videos, tally)
        write_annotations(folder / f"instances_{split}.json", rows, store, videos=videos)
        tally.groups["videos"] += len(videos)
    return tally


def _rows(
    store: LabelStore, split: str, videos: list[dict[str, Any]], tally: Tally
) -> Iterator[dict[str, Any]]:
    """Yield the annotations of a split and append its videos to ``videos``."""
    for name, frames in read_clips(store, split):
        number = len(videos) + 1
        video, annotations = _read_clip(str(name), frames, tally)
        videos.append({"id": number, **video})
        for row in annotations:
            yield {"video_id": number, **row}


def _read_clip(
    name: str, frames: Iterable[Instances], tally: Tally
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the entry of a video and its annotations."""
    clip = _read_frames(frames, tally)
    height, width = clip[0].masks.size
    video = {
        "name": name,
        "file_names": [file_name(frame.record) for frame in clip],
        "width": width,
        "height": height,
        "length": len(clip),
    }
    return video, _annotations(clip, tally)


def _read_frames(frames: Iterable[Instances], tally: Tally) -> list[Instances]:
    """Return the frames of a clip without masks that are empty, unlabelled or differ in size."""
    clip: list[Instances] = []
    for stored in frames:
        size = clip[0].masks.size if clip else stored.masks.size
        is_other_size = np.full(len(stored.masks), stored.masks.size != size)
        clip.append(
            tally.select(
                stored,
                {
                    "empty": stored.masks.area == 0,
                    "unlabelled": stored.category_id < 0,
                    "in frames that differ in size from the first": is_other_size,
                },
            )
        )
    return clip


def _annotations(clip: Sequence[Instances], tally: Tally) -> list[dict[str, Any]]:
    """Return the tracks in the order of their ids, then the masks without a track."""
    tracks: dict[int, Track] = defaultdict(list)
    untracked: list[Track] = []
    for t, frame in enumerate(clip):
        boxes = frame.masks.boxes
        for row in range(len(frame.masks)):
            track_id = -1 if boxes is None else int(boxes.track_id[row])
            if track_id < 0:
                untracked.append([(t, row)])
            else:
                tracks[track_id].append((t, row))
    tally.groups["tracks"] += len(tracks)
    tally.groups["masks without a track"] += len(untracked)
    return [
        *(_annotation(clip, tracks[i], {"track_id": i}) for i in sorted(tracks)),
        *(_annotation(clip, track, {}) for track in untracked),
    ]


def _annotation(clip: Sequence[Instances], track: Track, extra: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation; its lists have one item per frame, None if the frame has no mask."""
    height, width = clip[0].masks.size
    columns: dict[str, list[Any]] = {
        name: [None] * len(clip) for name in ("segmentations", "bboxes", "areas", "ignores")
    }
    texts = []
    for t, row in track:
        frame, masks = clip[t], clip[t].masks
        columns["segmentations"][t] = segmentation(masks, row)
        columns["bboxes"][t] = floats(box_xyxy_to_xywh(masks.xyxy[row : row + 1])[0])
        columns["areas"][t] = int(masks.area[row])
        columns["ignores"][t] = int(frame.ignore[row])
        texts.append(None if masks.boxes is None else masks.boxes.text[row])
    if known_texts := [text for text in texts if text is not None]:
        extra = {**extra, "text": _most_frequent(known_texts)}
    return {
        "category_id": _most_frequent([int(clip[t].category_id[row]) for t, row in track]),
        "iscrowd": int(all(clip[t].ignore[row] for t, row in track)),
        "height": height,
        "width": width,
        **columns,
        **extra,
    }


def _most_frequent(values: Sequence[T]) -> T:
    """Return the most frequent value; the first one if several are equally frequent."""
    return Counter(values).most_common(1)[0][0]
