"""Tiny videos of words that move, turn, grow and hide each other, with their masks and tracks."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WORDS = ("ALPS", "track", "##DONT#CARE##")


@dataclass
class Video:
    """What was drawn; the last word cannot be read, the others can."""

    frames: np.ndarray  # (T, H, W, 3) uint8
    quads: np.ndarray  # (T, N, 4, 2), px; corners clockwise from the upper left
    masks: np.ndarray  # (T, N, H, W) bool, what is to be seen of each word


def draw_video(n: int = 50, size: tuple[int, int] = (120, 160), seed: int = 0) -> Video:
    """Three plates of plain colours on textured ground that moves, too; later ones on top."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.integers(70, 130, (height // 8 + n, width // 8 + n, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    colors = ((230, 60, 50), (50, 220, 90), (240, 240, 80))
    frames = np.zeros((n, height, width, 3), np.uint8)
    quads = np.zeros((n, len(WORDS), 4, 2))
    masks = np.zeros((n, len(WORDS), height, width), bool)
    for t in range(n):
        part = t / max(n - 1, 1)
        image = ground[t : t + height, 2 * t : 2 * t + width].copy()
        starts = np.array([(0.25, 0.3), (0.7, 0.3), (0.5, 0.7)])
        ends = np.array([(0.6, 0.35), (0.35, 0.4), (0.5, 0.5)])
        centers = (starts + (ends - starts) * part) * (width, height)
        for i, (center, angle, scale) in enumerate(
            zip(centers, (40 * part, 10 - 60 * part, 0), (1, 1, 0.6 + part), strict=True)
        ):
            sides = np.array([0.25 * width, 0.16 * height]) * scale / 2
            corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * sides
            sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
            quad = corners @ [[cosine, sine], [-sine, cosine]] + center
            quads[t, i] = np.round(quad, 1)
            drawn = np.zeros(size, np.uint8)
            cv2.fillConvexPoly(drawn, np.round((quads[t, i] - 0.5) * 16).astype(int), 1, shift=4)
            masks[t, : i + 1] &= drawn == 0
            masks[t, i] = drawn > 0
            image[drawn > 0] = colors[i]
        frames[t] = image
    return Video(frames, quads, masks)


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    faststart: bool = True,
    **options: str,
) -> None:
    """Write frames, with B-frames and a keyframe every twelve; times are in milliseconds."""
    import av

    container = {"movflags": "faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=container) as file:
        stream = file.add_stream(codec, rate=25, options={"g": "12", "bf": "2", **options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.thread_count = 1  # x264 spends its bits by how its threads ran
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[i] if times else 40 * i
            frame.time_base = Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def write_frames(folder: Path, frames: np.ndarray, pattern: str = "{}.png", first: int = 1) -> None:
    """Write a folder of frames as the released datasets number them."""
    folder.mkdir(parents=True)
    for i, image in enumerate(frames, first):
        Image.fromarray(image).save(folder / pattern.format(i))


def write_icdar(path: Path, quads: np.ndarray) -> None:
    """The XML of ICDAR 2015 "Text in Videos": https://rrc.cvc.uab.es/?ch=3&com=tasks."""
    root = ET.Element("Frames")
    for t, frame in enumerate(quads, 1):
        element = ET.SubElement(root, "frame", ID=str(t))
        for i, quad in enumerate(frame):
            values = {"Language": "English", "Mirrored": "unmirrored", "Quality": "MODERATE"}
            word = ET.SubElement(element, "object", Transcription=WORDS[i], ID=str(i + 1), **values)
            for x, y in quad:
                ET.SubElement(word, "Point", x=str(float(x)), y=str(float(y)))
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def write_dstext(path: Path, quads: np.ndarray) -> None:
    """The XML of DSText: https://rrc.cvc.uab.es/?ch=22&com=tasks; names as in its converters."""
    write_icdar(path, quads)
    text = path.read_text()
    for old, new in (
        ("Frames", "frames"),
        (' Mirrored="unmirrored" Quality="MODERATE"', ' Category="Scene Text"'),
        ("Language", "language"),
    ):
        text = text.replace(old, new)
    path.write_text(text)


def write_bovtext(path: Path, quads: np.ndarray) -> None:
    """The JSON of BOVText: https://sites.google.com/view/video-and-langauge/bovtext/downloads."""
    frames = {
        str(t): [
            {
                "points": np.ravel(quad).tolist(),
                "ID": str(i + 1),
                "transcription": "###" if WORDS[i].startswith("#") else WORDS[i],
                "category": "scene text",
                "language": "English",
                "ID_transcription": WORDS[i],
            }
            for i, quad in enumerate(frame)
        ]
        for t, frame in enumerate(quads, 1)
    }
    path.write_text(json.dumps(frames))


def write_table(path: Path, quads: np.ndarray, video: str) -> None:
    """Our own table, CSV or Parquet."""
    rows = [
        {
            "video": video,
            "frame": t,
            "track": i + 1,
            **{f"{a}{k}": float(quad[k, "xy".index(a)]) for k in range(4) for a in "xy"},
            "text": "" if WORDS[i].startswith("#") else WORDS[i],
            "ignore": WORDS[i].startswith("#"),
        }
        for t, frame in enumerate(quads)
        for i, quad in enumerate(frame)
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"ignore": int(row["ignore"])} for row in rows)


#: How to write the annotations of a video, and as what.
FORMATS = {
    "icdar": ("{}_GT.xml", write_icdar),
    "dstext": ("{}_GT.xml", write_dstext),
    "bovtext": ("{}.json", write_bovtext),
    "csv": ("boxes.csv", write_table),
    "parquet": ("boxes.parquet", write_table),
}


@lru_cache
def _encode(n: int, seed: int) -> bytes:
    """The file of a video, always the same one: x264 does not end with the same bytes each time."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        write_video(path, draw_video(n, seed=seed).frames)
        return path.read_bytes()


def create_video(
    root: Path, kind: str = "csv", n: int = 50, name: str = "Video_1", seed: int = 0
) -> Video:
    """Write a video with its annotations, in one of `FORMATS`.

    Returns:
        What was drawn.
    """
    video = draw_video(n, seed=seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.mp4").write_bytes(_encode(n, seed))
    pattern, write = FORMATS[kind]
    more = (name,) if write is write_table else ()
    write(root / pattern.format(name), video.quads, *more)
    return video
