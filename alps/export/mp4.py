"""Write video files that browsers play: H.264 in MP4, encoded with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alps.errors import MissingPackage

#: libx264's quality, from 0 (lossless) to 51; its default is 23.
CRF = "20"
PRESET = "veryfast"


@contextmanager
def writing_mp4(
    path: Path, size: tuple[int, int], rate: Fraction
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"], int], None]]:
    """Open a video file for writing, frame by frame.

    Frame numbers may have gaps, in which the player shows the previous frame. The encoder
    subsamples colours by two, so an odd height or width is padded by repeating the last row or
    column.

    Args:
        path: the file to write; its folder is created.
        size: (H, W) of all frames, in pixels.
        rate: frames per second.

    Yields:
        A function that adds an RGB frame with its number.

    Raises:
        MissingPackage: PyAV is not installed, or was built without an H.264 encoder.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackage(
            f"writing the video {path.name} needs PyAV, which is not installed: pip install av"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    # Write the index to the front of the file, so that playback can start during a download.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        try:
            stream = container.add_stream("libx264", rate, {"crf": CRF, "preset": PRESET})
        except ValueError as error:
            raise MissingPackage(
                "the installed PyAV has no H.264 encoder; install the wheel from the package "
                "index: pip install --force-reinstall av"
            ) from error
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate

        def add(image: UInt8[np.ndarray, "H W 3"], number: int) -> None:
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))

        yield add
        container.mux(stream.encode())
