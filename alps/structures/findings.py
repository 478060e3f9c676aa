"""What does not fit together in a dataset, counted once before anything is computed from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

from alps.errors import ConfigError

log = logging.getLogger(__name__)

#: So many findings are logged; the others are counted.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of contradiction in a dataset, and how often it occurs.

    Args:
        kind: a short stable key, such as ``orphan_annotations``.
        count: how many annotations, images or classes are concerned.
        message: what was found, with the count and the first instance; no absolute path.
        remedy: what to do about it, as an imperative.
    """

    kind: str
    count: int
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


@runtime_checkable
class Audited(Protocol):
    """An image set that can say what does not fit together in it."""

    def findings(self) -> list[Finding]:
        """Return the contradictions among images, annotations and classes; none is usual.

        They come in the order of their importance.
        """


def report_findings(
    findings: Iterable[Finding], *, name: str, strict: bool = False, rest: str = "findings.json"
) -> None:
    """Log the most important findings, a line each, or raise them as one error.

    Args:
        findings: in the order of their importance.
        name: of the dataset, which begins each line.
        strict: raise instead of logging.
        rest: where those that are not logged can be read.

    Raises:
        ConfigError: ``strict``, and there are findings.
    """
    listed = [*findings]
    if strict and listed:
        raise ConfigError(
            f"strict=true, and {name} has {len(listed)} "
            f"finding{'s' * (len(listed) > 1)}: {' | '.join(map(str, listed))}"
        )
    for finding in listed[:SHOWN]:
        log.warning("%s: %s", name, finding)
    if len(listed) > SHOWN:
        log.warning("%s: %d more findings are in %s", name, len(listed) - SHOWN, rest)


def findings_to_json(findings: Sequence[Finding]) -> str:
    """Return findings as a JSON list of objects; the same findings give the same text."""
    return json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False)


def json_to_findings(text: str) -> list[Finding]:
    """Return the findings that `findings_to_json` wrote.

    Raises:
        ValueError: the text is no list of findings.
    """
    try:
        return [Finding(**entry) for entry in json.loads(text)]
    except TypeError as error:
        raise ValueError(f"it is no list of findings: {error}") from None
