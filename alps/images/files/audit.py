"""Find inconsistencies between the images of a dataset and their boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alps.images.files.header import compare_sizes, read_size
from alps.structures.boxes import Annotation
from alps.structures.findings import Finding

#: Maximum number of characters of `Occurrences.first`.
MAX_LENGTH = 300
#: Remedy for unknown classes in datasets that accept ``dataset.classes``.
SET_CLASSES = "set dataset.classes=[...], or correct them in the annotations"


@dataclass(slots=True)
class Occurrences:
    """Number of occurrences of an inconsistency, and its first instance."""

    count: int = 0
    first: str = ""

    def add(self, instance: str, n: int = 1) -> None:
        """Count ``n`` occurrences of ``instance``."""
        if n and not self.count:
            self.first = " ".join(instance.split())[:MAX_LENGTH]
        self.count += n

    def __str__(self) -> str:
        return f"(first: {self.first})"


def count_of(n: int, total: int, noun: str, plural: str = "") -> str:
    """Return "``n`` of ``total``" followed by the noun in the singular or plural.

    Args:
        n: number of affected items.
        total: number of all items.
        noun: singular name of an item.
        plural: plural of ``noun``; by default ``noun`` followed by "s".

    >>> count_of(1, 2, "image"), count_of(2, 2, "class", "classes")
    ('1 of 2 images', '2 of 2 classes')

    Returns:
        The phrase.
    """
    return f"{n} of {total} {noun if total == 1 else plural or noun + 's'}"


@dataclass(slots=True)
class Audit:
    """Counts over all images of a dataset with boxes.

    Args:
        classes: class names in the order of their ids.
        unknown_remedy: remedy for objects of an unknown class.
        ignored_remedy: remedy if all objects are marked as ignored.
    """

    classes: Sequence[str]
    unknown_remedy: str = "correct the names in the annotations"
    ignored_remedy: str = "clear the flag in the annotations if it is not intended"
    images: int = 0
    objects: int = 0
    ignored: int = 0
    sized: int = 0
    used: set[str] = field(default_factory=set)
    other_size: Occurrences = field(default_factory=Occurrences)
    unknown: Occurrences = field(default_factory=Occurrences)
    unparsed: Occurrences = field(default_factory=Occurrences)
    unannotated: Occurrences = field(default_factory=Occurrences)
    duplicates: Occurrences = field(default_factory=Occurrences)

    def add(
        self,
        image: str,
        file: str,
        annotations: Iterable[Annotation],
        unparsed: Sequence[str] = (),
    ) -> None:
        """Count the annotations of one image.

        Args:
            image: path of the image relative to the root.
            file: annotation file, for messages.
            annotations: annotations as read from the file.
            unparsed: one line for each annotation that could not be parsed.
        """
        keys = set[tuple[str, tuple[float, ...], int | None]]()
        n = len(unparsed)
        for line in unparsed:
            self.unparsed.add(f"{file} {line}")
        for a in annotations:
            n += 1
            self.ignored += a.ignore
            self.used.add(a.category)
            if a.category not in self.classes:
                self.unknown.add(f"{a.category[:60]!r} in {file} {a.where}")
            key = a.category, tuple(map(float, a.points)), a.track_id
            if key in keys:
                self.duplicates.add(f"{file} {a.where}")
            keys.add(key)
        self.images += 1
        self.objects += n
        if not n:
            self.unannotated.add(image)

    def add_size(self, path: Path, image: str, stated: tuple[int, int] | None) -> None:
        """Compare the size stated in the annotations with the header of the image.

        If one of the sizes is unknown, nothing is counted.

        Args:
            path: image file.
            image: path of the image relative to the root, for messages.
            stated: (H, W) in the annotations, px, or None.
        """
        if stated is None or (size := read_size(path)) is None:
            return
        self.sized += 1
        if problem := compare_sizes(image, size, stated):
            self.other_size.add(problem)

    def findings(self) -> list[Finding]:
        """Return the findings that occur at least once, the most important first."""
        unused = [name for name in self.classes if name not in self.used]
        findings = [
            Finding(
                "other_size",
                self.other_size.count,
                f"{count_of(self.other_size.count, self.sized, 'image')} do not have the size "
                f"stated in their annotations {self.other_size}",
                "use the images that were annotated, or correct the stated size if the boxes fit; "
                "until then these boxes are dropped",
            ),
            Finding(
                "all_ignored",
                self.objects if self.ignored == self.objects else 0,
                f"all {self.objects} objects are marked as ignored, so no pixel gets a class",
                self.ignored_remedy,
            ),
            Finding(
                "unknown_classes",
                self.unknown.count,
                f"{count_of(self.unknown.count, self.objects, 'object')} have an unknown class "
                f"{self.unknown}",
                self.unknown_remedy,
            ),
            Finding(
                "unclear_annotations",
                self.unparsed.count,
                f"{count_of(self.unparsed.count, self.objects, 'annotation')} cannot be parsed "
                f"{self.unparsed}",
                "correct or remove them; they are dropped",
            ),
            Finding(
                "duplicate_annotations",
                self.duplicates.count,
                f"{count_of(self.duplicates.count, self.objects, 'annotation')} duplicate another "
                f"annotation of the same image {self.duplicates}",
                "remove them; otherwise each one gets its own mask",
            ),
            Finding(
                "images_without_annotations",
                self.unannotated.count,
                f"{count_of(self.unannotated.count, self.images, 'image')} have no annotation "
                f"{self.unannotated}",
                "annotate or remove them, unless they contain no objects",
            ),
            Finding(
                "unused_classes",
                len(unused),
                f"{count_of(len(unused), len(self.classes), 'class', 'classes')} have no object "
                f"({', '.join(unused[:3])}{', …' * (len(unused) > 3)})",
                "no network can learn them: remove them from the classes, or add annotations",
            ),
        ]
        return [finding for finding in findings if finding.count]
