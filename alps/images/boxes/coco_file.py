"""Read an untrusted COCO file (arXiv 1405.0312): images, objects and categories by id.

An id may be a number or text; "7", 7 and 7.0 are the same id. Invalid entries are counted and
skipped. A file in which two images or two classes have the same id is rejected.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from alps.errors import LabelError
from alps.images.files.audit import Occurrences, count_of
from alps.images.files.ids import to_nfc
from alps.images.files.limits import MAX_DATASET_BYTES, decode_text, read_bytes
from alps.images.files.text import parse_json
from alps.structures.boxes import Annotation
from alps.structures.findings import Finding

Id = int | str
Entry = dict[str, Any]
#: Required lists of a file.
LISTS = ("images", "annotations", "categories")
#: Maximum number of characters of a name.
MAX_NAME = 500


@dataclass(frozen=True, eq=False)
class CocoFile:
    """The valid entries of a file."""

    images: Sequence[Entry]  # "id" normalized by `to_id`, "file_name" with /
    objects: Mapping[Id, Sequence[Entry]]  # by image id; "where" is the location
    names: Mapping[Id, str]  # unique category names in the order of their ids
    findings: Sequence[Finding]


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Args:
        path: the JSON file.

    Returns:
        The valid entries and the inconsistencies of the file.

    Raises:
        FileNotFoundError: there is no such file.
        LabelError: the file is not a COCO file, it has no valid image or an invalid category, or
            two images or two categories have the same id.
    """
    try:
        raw = parse_json(decode_text(read_bytes(path, MAX_DATASET_BYTES)))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise LabelError(f"cannot read {path}: {error}") from error
    lists = raw if isinstance(raw, dict) else {}
    if missing := [key for key in LISTS if not isinstance(lists.get(key), list)]:
        raise LabelError(
            f"{path} is not a COCO file: it has no {' and no '.join(missing)}; expected the lists "
            "images, annotations and categories"
        )
    names, category_findings = _read_categories(path, lists["categories"])
    images, image_findings = _read_images(path, lists["images"])
    ids = {
        to_id(entry["id"]): isinstance(entry["id"], str)
        for key in ("images", "categories")
        for entry in lists[key]
        if isinstance(entry, dict) and to_id(entry.get("id")) is not None
    }
    objects: defaultdict[Id, list[Entry]] = defaultdict(list)
    orphans, text_ids = Occurrences(), Occurrences()
    image_ids = {image["id"] for image in images}
    for i, entry in enumerate(lists["annotations"]):
        where = _where(entry, i)
        image_id = to_id(entry.get("image_id")) if isinstance(entry, dict) else None
        if image_id not in image_ids or image_id is None:
            value = json.dumps(entry.get("image_id") if isinstance(entry, dict) else entry)[:60]
            orphans.add(f"{where} has image_id {value}")
            continue
        objects[image_id].append({**entry, "where": where})
        for key in ("image_id", "category_id"):
            value = entry.get(key)
            if isinstance(value, str) != ids.get(to_id(value), isinstance(value, str)):
                text_ids.add(f"{key} of {where} is {json.dumps(value)[:60]}")
                break
    n = len(lists["annotations"])
    findings = [
        Finding(
            "orphan_annotations",
            orphans.count,
            f"{count_of(orphans.count, n, 'annotation')} belong to no image {orphans}",
            "correct their image_id or add the images; until then they are skipped",
        ),
        *category_findings,
        *image_findings,
        Finding(
            "ids_as_text",
            text_ids.count,
            f"{count_of(text_ids.count, n, 'annotation')} have an id as text that is a number in "
            f"images or categories, or vice versa {text_ids}",
            "write ids as numbers if other tools need the file; ALPS treats both as equal",
        ),
    ]
    return CocoFile(images, objects, names, [finding for finding in findings if finding.count])


def to_id(value: object) -> Id | None:
    """Return a normalised id; None if it is invalid. Integers become int, even if stored as text.

    >>> to_id(7), to_id("7"), to_id(7.0), to_id("007"), to_id("a"), to_id(None), to_id(1.5)
    (7, 7, 7, '007', 'a', None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, str) and re.fullmatch(r"0|-?[1-9]\d{0,17}", value):
        return int(value)
    return value


def stated_size(image: Entry) -> tuple[int, int] | None:
    """Return the (H, W) in an entry of images, px; None if one is missing or 0."""
    sides = [to_id(image.get(key)) for key in ("height", "width")]
    height, width = (side if isinstance(side, int) and side > 0 else None for side in sides)
    return None if height is None or width is None else (height, width)


def to_annotation(entry: Entry, names: Mapping[Id, str]) -> Annotation | str:
    """Convert an object to an annotation, or return a message if its category is unknown.

    Args:
        entry: an entry of `CocoFile.objects`.
        names: category names by id.

    Returns:
        The annotation, or an error message.
    """
    key = to_id(entry.get("category_id"))
    if key is None or key not in names:
        expected = ", ".join([*names.values()][:8]) + ", …" * (len(names) > 8)
        problem = f"category {str(key)[:60]!r}"
        if key is None:
            problem = f"category_id {json.dumps(entry.get('category_id'))[:60]}"
        return f"{entry['where']}: {problem} is none of the {len(names)}: {expected}"
    return Annotation(
        entry["where"],
        names[key],
        _corners(entry.get("bbox")),
        ignore=bool(entry.get("iscrowd")) or bool(entry.get("ignore")),
        score=_score(entry.get("score")),
    )


def _where(entry: Any, i: int) -> str:
    """Return the location of an annotation: its id, or its index if the id is missing."""
    entry_id = to_id(entry.get("id")) if isinstance(entry, dict) else None
    return f"annotations[{i}]" if entry_id is None else f"annotation {str(entry_id)[:60]}"


def _find_problem(entry: Any, where: str, name: str) -> str:
    """Return why an entry of images or categories is invalid, or "" if it is valid."""
    if not isinstance(entry, dict):
        return f"{where} is not an object, expected id, {name}"
    if missing := [key for key in ("id", name) if key not in entry]:
        return f"{where} has no {' and no '.join(missing)}"
    if to_id(entry["id"]) is None:
        return f"id of {where} is {str(entry['id'])[:60]!r}, expected an integer"
    value = entry[name]
    is_text = isinstance(value, str) and value.isprintable() and len(value) <= MAX_NAME
    if not is_text or not PurePosixPath(value).name:
        return (
            f"{name} of {where} is {str(value)[:60]!r}, expected text of at most {MAX_NAME} "
            "characters"
        )
    return ""


def _read_images(path: Path, entries: Sequence[Any]) -> tuple[list[Entry], list[Finding]]:
    """Return the valid entries, one per id, and the findings."""
    images: dict[Id, Entry] = {}
    unusable, backslashes, repeated = Occurrences(), Occurrences(), Occurrences()
    names = set[str]()
    for i, entry in enumerate(entries):
        key = to_id(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or _find_problem(entry, f"images[{i}]", "file_name"):
            unusable.add(_find_problem(entry, f"images[{i}]", "file_name"))
            continue
        name = entry["file_name"]
        if "\\" in name:
            backslashes.add(repr(name))
            name = name.replace("\\", "/")
        if to_nfc(name) in names:
            repeated.add(f"{name} as images[{i}]")
        names.add(to_nfc(name))
        other = images.setdefault(key, {**entry, "id": key, "file_name": name})
        if other["file_name"] != name:
            raise LabelError(
                f"{path}: two images have the id {key}, {other['file_name']!r} and {name!r}, so "
                "annotations are ambiguous; give each a unique id"
            )
    if unusable.count and not images:
        raise LabelError(f"{path}: {unusable.first}")
    n = len(entries)
    return [*images.values()], [
        Finding(
            "unusable_images",
            unusable.count,
            f"{count_of(unusable.count, n, 'entry', 'entries')} in images are invalid {unusable}",
            "correct or remove them; until then they are skipped",
        ),
        Finding(
            "listed_twice",
            repeated.count,
            f"{count_of(repeated.count, n, 'image')} are listed twice or more {repeated}",
            "list each image once; ALPS merges the annotations of its entries",
        ),
        Finding(
            "backslashes",
            backslashes.count,
            f"{count_of(backslashes.count, n, 'file name')} have backslashes, as written on "
            f"Windows {backslashes}",
            "use / if other tools need the file; ALPS reads backslashes as /",
        ),
    ]


def _read_categories(path: Path, entries: Sequence[Any]) -> tuple[dict[Id, str], list[Finding]]:
    """Return the names by id, made unique, and the findings."""
    by_id: dict[Id, Entry] = {}
    for i, entry in enumerate(entries):
        key = to_id(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or _find_problem(entry, f"categories[{i}]", "name"):
            raise LabelError(f"{path}: {_find_problem(entry, f'categories[{i}]', 'name')}")
        other = by_id.setdefault(key, entry)
        if other["name"] != entry["name"]:
            raise LabelError(
                f"{path}: two categories have the id {key}, {other['name']!r} and "
                f"{entry['name']!r}, so annotations are ambiguous; give each a unique id"
            )
    ordered = sorted(by_id.items(), key=lambda item: _order(item[0]))
    occurrences = Counter(entry["name"] for _, entry in ordered)
    names: dict[Id, str] = {}
    repeated = Occurrences()
    used = {name for name, n in occurrences.items() if n == 1}
    for key, entry in ordered:
        name = entry["name"]
        if occurrences[name] > 1:
            group = entry.get("supercategory")
            spellings = [f"{name} ({group})"] * (isinstance(group, str) and group.isprintable())
            spellings += [f"{name} (id {key})", f"{name} (id {key!r} of categories)"]
            name = next((s for s in spellings if s not in used), f"{spellings[-1]} {len(used)}")
            used.add(name)
            repeated.add(f"{entry['name']!r}, now {name!r}")
        names[key] = name
    finding = Finding(
        "same_class_name",
        repeated.count,
        f"{count_of(repeated.count, len(names), 'category', 'categories')} share a name {repeated}",
        "give each a unique name, or merge them; until then, each is a separate class",
    )
    return names, [finding]


def _order(key: Id) -> tuple[bool, int, str]:
    """Return a sort key: numbers (also those stored as text) in order, then other strings."""
    text = str(key)
    number = re.fullmatch(r"-?\d{1,18}", text)
    return number is None, int(text) if number else 0, text


def _score(value: Any) -> float | None:
    """Return a score as float; None if it is not a plausible number."""
    return float(value) if isinstance(value, int | float) and abs(value) <= 1e30 else None


def _corners(bbox: Any) -> list[float]:
    """Convert XYWH to corners; `check_boxes` reports malformed boxes."""
    try:
        values = [float(value) for value in bbox]
    except (TypeError, ValueError, OverflowError):
        return []
    if len(values) != 4:
        return values
    x, y, width, height = values
    return [x, y, x + width, y + height]
