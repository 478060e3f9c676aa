"""The trials of a sweep side by side: which prompt is best, at what cost.

A trial's store holds its scores and no times; the times of this run are kept beside the stores, in
the sweep's folder.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from alps.store import atomic

FOLDER = "trials"
TABLE = "study.csv"


def add_trial(
    folder: Path,
    number: int,
    words: Sequence[str],
    scores: Mapping[str, Any],
    seconds: float,
) -> None:
    """Keep what a trial found, and write the table of all that are done.

    Args:
        folder: of the sweep.
        number: of the trial, from 0.
        words: of its command line, ``key=value``.
        scores: numbers by name; what is no number is left out.
        seconds: per image, of the masks.
    """
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    trial = {"words": [*words], "scores": {**numbers, "s/image": seconds}}
    with atomic(folder, f"{FOLDER}/{number:03d}.json") as file:
        file.write(json.dumps(trial).encode())
    rows = tabulate_trials(folder)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic(folder, TABLE) as file:
        file.write(text.getvalue().encode())


def tabulate_trials(folder: Path) -> list[list[str]]:
    """A head, then a row per trial: what is its own of the command line, then its scores."""
    trials = [json.loads(path.read_text()) for path in sorted((folder / FOLDER).glob("*.json"))]
    settings = [dict(word.split("=", 1) for word in trial["words"]) for trial in trials]
    keys = list(dict.fromkeys(key for own in settings for key in own))
    varied = [key for key in keys if len({own.get(key) for own in settings}) > 1]
    names = list(dict.fromkeys(name for trial in trials for name in trial["scores"]))
    rows = [
        [own.get(key, "") for key in varied] + [_show(trial["scores"].get(name)) for name in names]
        for own, trial in zip(settings, trials, strict=True)
    ]
    return [[*varied, *names], *rows]


def print_trials(folder: Path) -> None:
    """The table on the terminal."""
    head, *rows = tabulate_trials(folder)
    table = Table(*head, title=f"{len(rows)} trials", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"table   {folder / TABLE}", soft_wrap=True)


def _show(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value if value is not None else "")
