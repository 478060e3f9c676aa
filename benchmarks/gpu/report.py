"""The results as text for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gpu.findings import Outcome, Table
from benchmarks.gpu.parts import PARTS


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    body = "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
    return f"**{table.title}**\n\n{body}"


def line(name: str, outcome: Outcome) -> str:
    """Return the result of a part in one line."""
    return f"{outcome.status} {name}: {outcome.reason} ({outcome.seconds:.0f} s)"


def part_report(name: str, outcome: Outcome) -> str:
    """Return the results of a part as Markdown."""
    tables = "".join(f"{markdown(table)}\n" for table in outcome.tables)
    skipped = "".join(f"Not checked: {reason}.\n\n" for reason in outcome.skipped)
    return f"## {PARTS[name].title}\n\n{line(name, outcome)}\n\n{tables}{skipped}"


def report(machine: str, outcomes: Mapping[str, Outcome]) -> str:
    """Return the page of all parts."""
    parts = "".join(part_report(name, outcome) for name, outcome in outcomes.items())
    return f"# ALPS on a GPU\n\nWritten by `make gpu-check`. Machine: {machine}\n\n{parts}"[:-1]
