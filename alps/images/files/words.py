"""The words of annotation files: lists of names, marks, numbers, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError, ImageError
from alps.images.files.ids import normal
from alps.images.files.limits import decode_text, read_bytes

#: Lists of images as Pascal VOC has them, and the split of each; a later one counts more.
LISTS: Mapping[str, str] = {"trainval": "train", "train": "train", "val": "val", "test": "test"}

#: How a mark such as "difficult" says no and yes; 2 is DOTA's, which has two degrees of it.
SWITCH: Mapping[str, bool] = {
    **dict.fromkeys(("", "0", "0.0", "false", "no", "unspecified"), False),
    **dict.fromkeys(("1", "1.0", "2", "2.0", "true", "yes"), True),
}


def read_splits(folder: Path) -> dict[str, str]:
    """The split of each image that the lists in a folder name, one a line."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        splits |= dict.fromkeys(read_list(folder / f"{name}.txt"), split)
    return splits


def read_list(path: Path) -> list[str]:
    """The names in a list, one a line, composed as `normal` does; none where there is no list."""
    lines = read_text(path).splitlines() if path.is_file() else []
    return [normal(line.strip()) for line in lines if line.strip()]


def read_text(path: Path) -> str:
    """An annotation file; raises `ImageError` when it cannot be read."""
    try:
        return decode_text(read_bytes(path), errors="replace")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def check_classes(classes: Sequence[object] | None) -> list[str] | None:
    """Return names of classes as text; raises `ConfigError` unless they are a list of such."""
    if classes is None:
        return None
    names = [] if isinstance(classes, str) else [str(name) for name in classes]
    if not names or len({*names}) < len(names) or not all(name.strip() for name in names):
        raise ConfigError(
            f"dataset.classes={classes}: expected a list of different names, as [cat,dog]"
        )
    return names


def parse_switch(word: str) -> bool | None:
    """Whether a mark says yes; None where it is none of `SWITCH`."""
    return SWITCH.get(word.strip().lower())


def numbers(words: Sequence[str]) -> list[float]:
    """Words as numbers, NaN for what is none."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            found.append(float("nan"))
    return found
