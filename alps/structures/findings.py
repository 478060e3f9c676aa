"""Inconsistencies of a dataset, counted once before anything is computed from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

from alps.errors import ConfigError

log = logging.getLogger(__name__)

#: Maximum number of findings that are logged; further findings are only counted.
MAX_LOGGED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of inconsistency in a dataset, and how often it occurs.

    Args:
        kind: short stable key, such as ``orphan_annotations``.
        count: number of affected annotations, images or classes.
        message: description with the count and the first instance; no absolute path.
        remedy: what to do about it, as an imperative.
    """

    kind: str
    count: int
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


@runtime_checkable
class AuditableSet(Protocol):
    """An image set that can check its own consistency."""

    def findings(self) -> list[Finding]:
        """Return the inconsistencies of images, annotations and classes, most important first."""


def report_findings(
    findings: Iterable[Finding], *, name: str, strict: bool = False, file: str = "findings.json"
) -> None:
    """Log the most important findings, one line each, or raise them as one error.

    Args:
        findings: the findings, most important first.
        name: name of the dataset, at the start of each line.
        strict: raise instead of logging.
        file: file that lists all findings, for the message.

    Raises:
        ConfigError: ``strict`` is set and there are findings.
    """
    entries = [*findings]
    if strict and entries:
        raise ConfigError(
            f"strict=true, and {name} has {len(entries)} "
            f"finding{'s' * (len(entries) > 1)}: {' | '.join(map(str, entries))}"
        )
    for finding in entries[:MAX_LOGGED]:
        log.warning("%s: %s", name, finding)
    if len(entries) > MAX_LOGGED:
        log.warning("%s: %d more findings are in %s", name, len(entries) - MAX_LOGGED, file)


def findings_to_json(findings: Sequence[Finding]) -> str:
    """Serialise findings as a JSON list of objects; equal findings give equal text."""
    return json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False)


def json_to_findings(text: str) -> list[Finding]:
    """Return the findings in a text that `findings_to_json` has returned.

    Raises:
        ValueError: the text is not a list of findings.
    """
    try:
        return [Finding(**entry) for entry in json.loads(text)]
    except TypeError as error:
        raise ValueError(f"it is not a list of findings: {error}") from None
