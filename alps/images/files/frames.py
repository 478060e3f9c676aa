"""Read single frames of videos (through PyAV), of folders of images, and of volumes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from alps.errors import ImageError, MissingPackage
from alps.images.files.nifti import is_volume, read_slice
from alps.images.files.read import SUFFIXES, read_pixels
from alps.rasters.pixels import Pixels
from alps.structures.records import ImageRecord

#: Suffixes of video files, compared case-insensitively.
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
#: Number of decoders kept open; each takes about 30 MB at 1280 × 720 px.
MAX_OPEN = 4


def read_frame(root: str | Path, record: ImageRecord) -> Pixels:
    """Read the image of a record: an image file, a frame of a video, or a slice of a volume.

    Sequential access to a video is fastest, because its decoder stays open at the current frame.

    Returns:
        The image and its valid mask.

    Raises:
        ImageError: the file cannot be read, or has no such frame.
        MissingPackage: PyAV (for videos) or nibabel (for volumes) is not installed.
    """
    path = Path(root, record.file_name)
    if record.frame_index is not None and is_volume(path):
        return read_slice(path, record.frame_index)
    if record.frame_index is None or path.suffix.lower() in SUFFIXES:
        return read_pixels(path)
    if not path.is_dir():
        # The process id keeps a forked process from sharing its parent's decoder.
        return Pixels(_open(path, os.getpid()).read(record.frame_index))
    files = [file.name for _, file in sorted(list_frames(path).items())]
    raise ImageError(
        f"{path} has {len(files)} frames{f', {files[0]} to {files[-1]}' * bool(files)}; there is "
        f"no frame {record.frame_index} (counted from 0)"
    )


def frame_rate(root: str | Path, record: ImageRecord) -> Fraction | None:
    """Return the average frame rate of a record's video file in frames per second.

    Returns:
        The rate. None if the record does not belong to a video file, or the file does not state it.

    Raises:
        ImageError: the file cannot be read.
        MissingPackage: PyAV is not installed.
    """
    path = Path(root, record.file_name)
    if record.frame_index is None or path.suffix.lower() not in VIDEO_SUFFIXES:
        return None
    return _open(path, os.getpid()).rate


def list_frames(folder: Path) -> dict[int, Path]:
    """Return the images of a folder by frame index.

    The index is the last number in a file name minus the lowest such number: 1.jpg, 2.jpg …
    10.jpg are frames 0 to 9. A missing frame does not change the index of the next ones.

    Raises:
        ImageError: a name has no number, or two names have the same number.
    """
    by_number: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        digits = re.findall(r"\d+", file.stem)
        other = by_number.setdefault(int(digits[-1]), file) if digits else None
        if other != file:
            raise ImageError(
                f"{file} {f'has the number of {other.name}' if other else 'has no number'}; "
                "frames in a folder are named after their numbers, such as 1.jpg or 000001.png"
            )
    return {number - min(by_number): file for number, file in by_number.items()}


@lru_cache(maxsize=MAX_OPEN)
def _open(path: Path, process: int) -> VideoFile:  # noqa: ARG001 - part of the cache key
    """Return a cached decoder of a video."""
    return VideoFile(path)


class VideoFile:
    """The frames of a video, numbered from 0 in presentation order.

    The metadata of a video (number of frames, frame rate, keyframes) may be wrong, and timestamps
    do not give frame numbers if the frame rate varies. Frames are therefore counted while the video
    is decoded from its start, and their timestamps are recorded. To read a later frame, the video
    is decoded forward, so sequential access decodes each frame once. To read an earlier frame, the
    decoder seeks to the last keyframe before it; if the timestamp there was not recorded, decoding
    restarts at the first frame.

    Args:
        path: the video file.

    Raises:
        ImageError: the file is not a video.
        MissingPackage: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingPackage(
                f"{path} is a video; reading it needs PyAV, which is not installed: "
                "pip install av, or extract its frames into a folder"
            ) from error
        self._av = av
        self.path = path
        self._times: list[int | None] = []
        self._numbers: dict[int, int] = {}  # by timestamp
        self._keyframes: dict[int, int] = {}  # timestamps by frame number
        self._frames: Iterator[Any] = iter(())
        self._next = 0  # number of the frame that _frames yields next
        self._end: str | None = None  # once the end is reached: "", or a note on damaged data
        self._restart()

    def __len__(self) -> int:
        """Return the number of frames; decodes the rest of the video on the first call."""
        while self._end is None:
            self._advance()
        return len(self._times)

    @property
    def rate(self) -> Fraction | None:
        """Average frame rate in frames per second; None if the container does not state it."""
        rate: Fraction | None = self._stream.average_rate
        return rate or None

    def read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Return the frame ``index`` in RGB, upright.

        Raises:
            ImageError: there is no such frame, or it is damaged.
        """
        if index < self._next:
            self._seek(index)
        frame = self._advance_to(index)
        if index < len(self._times) and (frame is None or frame.pts != self._times[index]):
            self._restart()  # the decoder skipped frames after the seek
            frame = self._advance_to(index)
        if frame is None:
            n, declared = len(self._times), self._stream.frames
            is_truncated = declared > n or self._end
            raise ImageError(
                f"{self.path} has {n}{f' of {declared}' * (declared > n)} frames{self._end}, there "
                f"is no frame {index} (counted from 0); "
                + (
                    "it is truncated, download it again"
                    if is_truncated
                    else "its annotations refer to later frames"
                )
            )
        if frame.is_corrupt:
            raise ImageError(f"frame {index} of {self.path} (counted from 0) is damaged")
        image = frame.to_ndarray(format="rgb24", threads=1)
        return np.ascontiguousarray(np.rot90(image, frame.rotation // 90))

    def _advance_to(self, index: int) -> Any:
        """Decode up to the frame ``index`` and return it; None if the video has fewer frames."""
        frame = None
        while self._next <= index:
            frame = self._advance()
            if frame is None:
                break
        return frame

    def _advance(self) -> Any:
        """Decode the next frame and return it; None at the end."""
        frame, damage = None, ""
        try:
            frame = next(self._frames, None)
        except self._av.FFmpegError as error:
            # Later frames may be decodable, but their numbers are unknown.
            damage = f", followed by damaged data ({error.strerror})"
        is_new = self._next == len(self._times)
        if frame is None:
            if is_new and self._end is None:
                self._end = damage
            return None
        if is_new:
            self._times.append(frame.pts)
            # Seeking needs a unique timestamp.
            if frame.pts is not None and frame.pts not in self._numbers:
                self._numbers[frame.pts] = self._next
                if frame.key_frame:
                    self._keyframes[self._next] = frame.pts
        self._next += 1
        return frame

    def _seek(self, index: int) -> None:
        """Position the decoder at the frame ``index`` or at an earlier frame."""
        if keyframe := max((k for k in self._keyframes if k <= index), default=0):
            with suppress(self._av.FFmpegError):
                self._container.seek(self._keyframes[keyframe], stream=self._stream)
                frames = self._container.decode(self._stream)
                first = next(frames, None)
                # After a seek, some codecs yield frames that depend on skipped frames.
                if first is not None and first.key_frame:
                    number = None if first.pts is None else self._numbers.get(first.pts)
                    if number is not None and number <= index:
                        self._frames, self._next = chain([first], frames), number
                        return
        self._restart()

    def _restart(self) -> None:
        """Reopen the video and position the decoder at its first frame."""
        try:
            self._container = self._av.open(str(self.path))
        except self._av.FFmpegError as error:
            raise ImageError(
                f"cannot read {self.path}: {error.strerror}; it is not a video, or it is truncated"
            ) from error
        if not self._container.streams.video:
            raise ImageError(f"cannot read {self.path}: it has no video stream")
        self._stream = self._container.streams.video[0]
        # With several threads, a forked process would block when it frees the decoder.
        self._stream.codec_context.thread_count = 1
        self._frames, self._next = self._container.decode(self._stream), 0
