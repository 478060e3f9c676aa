"""Measure how much the mask size of a tracked object varies between frames.

As in SAMText (arXiv 2305.01443, section 3), the measure is the coefficient of variation (standard
deviation divided by mean) of an object's mask sizes in consecutive frames. Coefficients above 1 are
excluded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from alps.report.counts.histogram import empty_histogram
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord

#: Bin edges of the coefficient of variation; larger coefficients are only counted.
COV_EDGES = np.linspace(0, 1, 21)

#: A clip, as (split, video id).
Clip = tuple[str, str]


@dataclass(slots=True)
class Run:
    """Sums over the masks of a track in consecutive frames."""

    frame_index: int  # frame of the last mask
    n: int = 0  # number of masks
    total: int = 0  # sum of the mask sizes, in pixels
    squares: int = 0  # sum of the squared mask sizes

    @property
    def cov(self) -> float | None:
        """Population standard deviation over mean; None for one mask or for empty masks.

        >>> Run(9, n=2, total=3 + 5, squares=9 + 25).cov
        0.25
        """
        if self.n < 2 or not self.total:
            return None
        return math.sqrt(self.n * self.squares - self.total**2) / self.total


@dataclass(slots=True, eq=False)
class TrackStatistics:
    """Counts of all tracks; only the runs of the current clip are kept in memory.

    Because a clip may be annotated only in, for example, every fifth frame, two frames are
    consecutive if their distance is the smallest in the clip. A track that is absent from a frame
    is split into two runs.
    """

    steps: Mapping[Clip, int]  # distance of consecutive frames, see `clip_steps`
    tracks: int = 0
    covs: Int64[np.ndarray, " B"] = field(
        default_factory=lambda: empty_histogram(COV_EDGES)
    )  # runs by coefficient
    above: int = 0  # number of runs with a coefficient above 1
    without: int = 0  # number of runs of one mask or of empty masks, without a coefficient
    _clip: Clip | None = None
    _runs: dict[int, Run] = field(default_factory=dict)  # by track id

    def count(self, record: ImageRecord, masks: Masks) -> None:
        """Count the masks of a frame; call it in the order of the frames.

        Still images, ignored boxes and boxes without a track are skipped.
        """
        if record.video_id is None or record.frame_index is None:
            return
        clip = record.split, record.video_id
        if clip != self._clip:
            self.close()
            self._clip = clip
        if masks.boxes is None:
            return
        chosen = (masks.boxes.track_id >= 0) & ~masks.boxes.ignore
        areas = zip(masks.boxes.track_id[chosen].tolist(), masks.area[chosen].tolist(), strict=True)
        for track, area in areas:
            run = self._runs.get(track)
            if run is None:
                self.tracks += 1
            if run is None or record.frame_index - run.frame_index != self.steps.get(clip):
                self._end(run)
                run = self._runs[track] = Run(record.frame_index)
            run.frame_index = record.frame_index
            run.n += 1
            run.total += area
            run.squares += area * area

    def close(self) -> None:
        """End the runs of the current clip."""
        for run in self._runs.values():
            self._end(run)
        self._runs = {}

    def _end(self, run: Run | None) -> None:
        if run is None:
            return
        cov = run.cov
        if cov is None:
            self.without += 1
        elif cov > 1:
            self.above += 1
        else:
            self.covs += np.histogram(cov, COV_EDGES)[0]


def clip_steps(plan: Sequence[Sequence[ImageRecord]]) -> dict[Clip, int]:
    """Return the smallest distance between frames of each clip with at least two frames."""
    steps: dict[Clip, int] = {}
    last: tuple[Clip, int] | None = None
    for record in (record for shard in plan for record in shard):
        if record.video_id is None or record.frame_index is None:
            continue
        clip = record.split, record.video_id
        if last and last[0] == clip:
            step = record.frame_index - last[1]
            steps[clip] = min(steps.get(clip, step), step)
        last = clip, record.frame_index
    return steps
