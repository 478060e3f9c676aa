"""Compare scores and run times of the trials of a sweep.

Run times are kept in the folder of the sweep, because stores contain scores but no run times.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from alps.store.atomic import atomic

FOLDER = "trials"
TABLE = "study.csv"
#: Names of the last columns: seconds per image and, if a trial failed, the error.
SECONDS, ERROR = "s/image", "error"


def add_trial(
    folder: Path,
    number: int,
    overrides: Sequence[str],
    scores: Mapping[str, float | int | None],
    seconds: float | None,
    error: str = "",
) -> None:
    """Write the results of a trial, and update the table of finished trials.

    Args:
        folder: the folder of the sweep.
        number: the number of the trial, from 0.
        overrides: the overrides of the trial, ``key=value``.
        scores: the scores by name; None for an undefined score.
        seconds: the time to make the masks, in seconds per image. None if the masks already
            existed; the time measured by an earlier run is then kept.
        error: error message of a failed trial; "" if it succeeded.
    """
    name = f"{FOLDER}/{number:03d}.json"
    if seconds is None and (folder / name).exists():
        seconds = json.loads((folder / name).read_text())["scores"].get(SECONDS)
    trial = {"overrides": [*overrides], "scores": {**scores, SECONDS: seconds}, ERROR: error}
    with atomic(folder, name) as file:
        file.write(json.dumps(trial).encode())
    rows = tabulate_trials(folder)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic(folder, TABLE) as file:
        file.write(text.getvalue().encode())


def tabulate_trials(folder: Path) -> list[list[str]]:
    """Return a header and one row per trial: the overrides that vary, then the scores.

    If a trial failed, the last column contains the error messages.
    """
    trials = [json.loads(path.read_text()) for path in sorted((folder / FOLDER).glob("*.json"))]
    # Earlier versions of ALPS named the overrides "words".
    settings = [_parse_overrides(trial.get("overrides") or trial["words"]) for trial in trials]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    varying = [key for key in keys if len({values.get(key) for values in settings}) > 1]
    names = list(dict.fromkeys(name for trial in trials for name in trial["scores"]))
    names.sort(key=SECONDS.__eq__)  # the time last, even if the first trial has no scores
    errors = [ERROR] if any(trial[ERROR] for trial in trials) else []
    rows = [
        [values.get(key, "") for key in varying]
        + [_format(trial["scores"].get(name)) for name in names]
        + [trial[name] for name in errors]
        for values, trial in zip(settings, trials, strict=True)
    ]
    return [[*varying, *names, *errors], *rows]


def print_trials(folder: Path) -> None:
    """Print the table of the trials, with the errors of failed trials below it."""
    head, *rows = tabulate_trials(folder)
    n = len(head) - (head[-1] == ERROR)
    table = Table(
        title=f"{len(rows)} trials",
        title_justify="left",
        box=box.SIMPLE_HEAD,  # narrow: ten columns have to fit into 80 characters
        collapse_padding=True,
        pad_edge=False,
    )
    for i, name in enumerate(head[:n]):
        numbers = all(_is_number(row[i]) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row[:n])
    console = Console(highlight=False)
    console.print(table)
    for number, row in enumerate(rows):
        if row[n:] and row[n]:
            console.print(f"row {number + 1} failed: {row[n]}", soft_wrap=True, markup=False)
    console.print(f"table   {folder / TABLE}", soft_wrap=True)


def _parse_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """Return the values of overrides by key; an override like ``~key`` has the value ""."""
    return {key: value for key, _, value in (override.partition("=") for override in overrides)}


def _is_number(text: str) -> bool:
    return not text or text.replace(".", "", 1).isdigit()


def _format(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value if value is not None else "")
