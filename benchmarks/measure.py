"""Shared by the benchmarks: images, CPU seconds of interleaved rounds, spreads, tables."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.table import Table
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from alps.images.files.read import read_image
from alps.images.plain.sample import SampleImages

#: Left upper corner of the 1024 × 1024 pixels that are taken of DOTA's P0706, a marina.
MARINA_X, MARINA_Y = 64, 128
console = Console(width=120)
#: Title, columns and rows.
TitledTable = tuple[str, Sequence[str], Sequence[Sequence[object]]]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | Float[np.ndarray, " n"]) -> Spread:
        """Summarise one number per round."""
        return cls(float(np.median(values)), float(np.min(values)), float(np.max(values)))

    def __str__(self) -> str:
        places = 1 if self.median >= 10 else 2
        return f"{self.median:.{places}f} ({self.low:.{places}f}-{self.high:.{places}f})"


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return how many times as long the peer takes, for each round."""
    return Spread.of(np.array(peer) / np.array(ours))


def clock() -> float:
    """Return CPU seconds of all threads, as wall time depends on other load.

    If a GPU is in use, wait for it and return wall seconds.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the seconds of `clock`."""
    start = clock()
    result = work()
    return result, clock() - start


def interleave(
    peers: Mapping[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Run the peers in turn for several rounds; return the last results and the seconds per round.

    Every round starts with another peer, so that none always has a warm cache.
    """
    names = list(peers)
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for start in range(rounds):
        for name in names[start % len(names) :] + names[: start % len(names)]:
            results[name], spent = cpu_seconds(peers[name])
            seconds[name].append(spent)
    return results, seconds


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table with the first column left-aligned and the others right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the table as Markdown, for benchmarks/README.md."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def report(tables: Iterable[TitledTable], file: Path | None, note: str = "") -> None:
    """Print tables and a note, and write them as Markdown if a file is given.

    Args:
        tables: title, columns and rows of each table.
        file: the Markdown file to write; None: only print.
        note: the text below the tables.
    """
    parts = []
    for title, columns, rows in tables:
        show(title, columns, rows)
        parts.append(f"{title}\n\n{markdown(columns, rows)}")
    if note:
        console.print(note, highlight=False)
        parts.append(f"{note}\n")
    if file:
        file.write_text("\n".join(parts))


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="holds dota/, vhr10/, potsdam224/"
    )
    parser.add_argument(
        "--full", action="store_true", help="measure whole what is scaled otherwise"
    )
    return parser


def one_thread() -> None:
    """Limit PyTorch and faiss to one thread, for stable ratios on a busy machine."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


def load_images(data: Path) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Return two DOTA images, a marina and a car park, or two of the sample's plots."""
    dota = data / "dota/images"
    if not dota.is_dir():
        console.print(f"{dota} is not there: the sample images are taken instead")
        return dict(list(sample_images().items())[:2])
    marina = read_image(dota / "P0706.png")
    marina = marina[MARINA_Y : MARINA_Y + 1024, MARINA_X : MARINA_X + 1024]
    return {"P0706": np.ascontiguousarray(marina), "P1888": read_image(dota / "P1888.png")}


def sample_images() -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Return the plots of `alps.images.plain.sample`, cut to one tile."""
    images = SampleImages("data/sample")
    return {
        record.image_id: np.ascontiguousarray(images.read(record).image[:1024, :1024])
        for record in images.records()
    }


def stock_generator(
    sam: Sam, points: Float[np.ndarray, "P 2"], batch: int
) -> SamAutomaticMaskGenerator:
    """Return segment_anything's generator, prompted with points in units of the image."""
    return SamAutomaticMaskGenerator(
        sam,
        points_per_side=None,
        point_grids=[points],
        points_per_batch=batch,
        output_mode="coco_rle",
    )
