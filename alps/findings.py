"""What does not fit together in a dataset, counted once before anything is computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of contradiction in a dataset, and how often it occurs.

    Args:
        kind: a short stable key, such as ``orphan_annotations``.
        count: how many annotations, images or classes are concerned.
        message: what was found, with the count and the first instance.
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
        """Return the contradictions among images, annotations and classes; none is usual."""
