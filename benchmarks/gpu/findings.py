"""What a part of the check reports: tables, checks, and what does not apply to this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """Result of a part."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_APPLICABLE = "NOT APPLICABLE"


@dataclass(frozen=True, slots=True)
class Table:
    """Measured values."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Check:
    """A statement that is true if the code is right."""

    statement: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that this machine cannot do."""

    reason: str


Finding = Table | Check | Skipped


@dataclass(slots=True)
class Outcome:
    """What a part has reported, and how long it took."""

    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        """FAIL after a failed check, NOT APPLICABLE if nothing was checked."""
        if self._failed:
            return Status.FAIL
        return Status.PASS if self._checks else Status.NOT_APPLICABLE

    @property
    def reason(self) -> str:
        """The failed checks, the number of checks, or why there are none."""
        if self._failed:
            return "; ".join(self._failed)
        if self._checks:
            return f"{len(self._checks)} checks"
        return "; ".join(self.skipped) or "nothing was checked"

    @property
    def skipped(self) -> list[str]:
        """Reasons for what was not checked."""
        return [finding.reason for finding in self.findings if isinstance(finding, Skipped)]

    @property
    def tables(self) -> list[Table]:
        """All measurements."""
        return [finding for finding in self.findings if isinstance(finding, Table)]

    @property
    def _checks(self) -> list[Check]:
        return [finding for finding in self.findings if isinstance(finding, Check)]

    @property
    def _failed(self) -> list[str]:
        return [check.statement for check in self._checks if not check.holds]
