"""Measure the throughput of several processes against one, and the overhead of Ray per shard.

python -m benchmarks.engines [--patches 8] [--rounds 5] [--data DIR] [--markdown FILE]

Measures wall time, so run it on an idle machine. All workers are started and their networks loaded
before the clock starts. In a round, all engines process the same shards in turn; the next round
uses others, because a segmenter caches the last images.

1. drawn images with a fake SAM, and empty shards: this process, another process, a Ray actor
2. masks (16 x 16 points) and features of patches of Potsdam, one per shard: one process against two
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from alps.images.plain.folder import Folder
from alps.labelling.engine.local import LocalEngine, LocalProcesses
from alps.labelling.engine.pool import WorkerPool
from alps.labelling.engine.ray import RayEngine
from alps.labelling.shard import label_shard
from alps.protocols import ImageSet, TaskRunner
from alps.store.label_store import LabelStore
from alps.store.plan import prepare
from benchmarks.growth import fake_parts, real_parts
from benchmarks.measure import Spread, TitledTable, arguments, console, ratio, report

SHARDS = 64  # of drawn images, one each
NOTHING = 500  # pieces that do nothing


@contextmanager
def one_process() -> Iterator[TaskRunner]:
    """Provide a single worker in another process, to measure the cost of the pipe."""
    with WorkerPool(LocalProcesses(1, 1, [])) as pool:
        yield pool.run


def begin(images: ImageSet, root: Path) -> LabelStore:
    """Create a store with one shard per image."""
    return prepare(
        root,
        name="engines",
        images={},
        records=images.records(),
        identities={"masks": {}, "features": {}},
        num_classes=2,
        ignore_index=255,
        versions={},
        shard_size=1,
    )


def label_part(
    work: Callable[[int], Any], store: LabelStore, n: int, run: TaskRunner, part: int
) -> None:
    """Label some shards again."""
    for folder in ("masks", "features", "images"):
        shutil.rmtree(store.root / folder, ignore_errors=True)
    for _ in run(work, range(part * n, part * n + n)):
        pass


def do_nothing(run: TaskRunner, _part: int) -> None:
    """Process many empty items."""
    for _ in run(abs, range(NOTHING)):
        pass


def wall(
    engines: dict[str, AbstractContextManager[TaskRunner]],
    work: Callable[[TaskRunner, int], None],
    rounds: int,
) -> dict[str, list[float]]:
    """Return the seconds of each round after a warm-up; each round starts with another engine."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    with ExitStack() as stack:
        runs = {name: stack.enter_context(engine) for name, engine in engines.items()}
        names = list(runs)
        for number in tqdm(range(rounds + 1), desc=" / ".join(names), unit="round"):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter()
                work(runs[name], number)
                if number:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def tabulate(title: str, seconds: dict[str, list[float]], pieces: int) -> TitledTable:
    """Return seconds, milliseconds per item, and the speed relative to the first engine."""
    base = next(iter(seconds.values()))
    rows = [
        [
            name,
            str(Spread.of(found)),
            str(Spread.of([1000 * s / pieces for s in found])),
            str(ratio(base, found)),
        ]
        for name, found in seconds.items()
    ]
    return title, ["", "s", "ms a shard", "x the first"], rows


def throughput(patches: Path, n: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Compare one process with two: MobileSAM on patches."""
    chosen = folder / "patches"
    chosen.mkdir()
    for path in sorted(patches.glob("*.png"))[: n * (rounds + 1)]:
        shutil.copy(path, chosen)
    parts = real_parts(chosen, ["masks.points_per_side=16"])
    images = Folder(str(chosen), "patches")
    store = begin(images, folder / "real")
    work = partial(
        label_shard,
        store=store,
        image_set=images,
        masks=parts["masks"],
        features=parts["features"],
    )
    return wall(
        {"one process": one_process(), "two": LocalEngine(processes=2, threads=1).workers()},
        partial(label_part, work, store, n),
        rounds,
    )


def overhead(rounds: int, folder: Path) -> Sequence[dict[str, list[float]]]:
    """Compare the engines with one worker each: a fake SAM, and empty items."""
    parts = fake_parts(SHARDS * (rounds + 1))
    images = parts["image_set"]
    store = begin(images, folder / "fake")
    work = partial(
        label_shard,
        store=store,
        image_set=images,
        masks=parts["masks"],
        features=parts["features"],
    )

    def engines() -> dict[str, AbstractContextManager[TaskRunner]]:
        return {
            "this process": LocalEngine(threads=1).workers(),
            "a process": one_process(),
            "a Ray actor": RayEngine(actors=1, threads=1).workers(),
        }

    return (
        wall(engines(), partial(label_part, work, store, SHARDS), rounds),
        wall(engines(), do_nothing, rounds),
    )


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--patches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="writes the tables there, too")
    args: argparse.Namespace = parser.parse_args()
    tables = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fake, empty = overhead(args.rounds, folder)
        tables.append(tabulate("Drawn images, a fake SAM, one worker", fake, SHARDS))
        tables.append(tabulate("Shards of nothing, one worker", empty, NOTHING))
        patches = args.data / "potsdam224/img_dir/val"
        if patches.is_dir():
            real = throughput(patches, args.patches, args.rounds, folder)
            tables.append(tabulate("Patches of Potsdam, MobileSAM", real, args.patches))
        else:
            console.print(f"{patches} is not there: nothing was measured with a real SAM")
    report(tables, args.markdown)


if __name__ == "__main__":
    main()
