"""Parse the fields of annotation files: lists of names, flags, numbers and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError, ImageError
from alps.images.files.ids import to_nfc
from alps.images.files.limits import decode_text, read_bytes

#: Split by the name of the image list, as in Pascal VOC; later entries take precedence.
LISTS: Mapping[str, str] = {"trainval": "train", "train": "train", "val": "val", "test": "test"}

#: Values of flags such as "difficult"; DOTA has two degrees of difficulty, 1 and 2.
FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("", "0", "0.0", "false", "no", "unspecified"), False),
    **dict.fromkeys(("1", "1.0", "2", "2.0", "true", "yes"), True),
}


def read_splits(folder: Path) -> dict[str, str]:
    """Return the split of each image named in the image lists of a folder (one name per line)."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        splits |= dict.fromkeys(read_list(folder / f"{name}.txt"), split)
    return splits


def read_list(path: Path) -> list[str]:
    """Return the names in a list (one per line) in NFC; [] if there is no file."""
    lines = read_text(path).splitlines() if path.is_file() else []
    return [to_nfc(line.strip()) for line in lines if line.strip()]


def read_text(path: Path) -> str:
    """Read an annotation file as text; raise `ImageError` if it cannot be read."""
    try:
        return decode_text(read_bytes(path), errors="replace")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def check_classes(classes: Sequence[object] | None) -> list[str] | None:
    """Return class names as strings; None stays None.

    Raises:
        ConfigError: the names are not a non-empty list of distinct names.
    """
    if classes is None:
        return None
    names = [] if isinstance(classes, str) else [str(name) for name in classes]
    if not names or len({*names}) < len(names) or not all(name.strip() for name in names):
        raise ConfigError(
            f"dataset.classes={classes}: expected a list of distinct names, such as [cat,dog]"
        )
    return names


def parse_flag(text: str) -> bool | None:
    """Return whether a flag is set; None if its value is not in `FLAGS`."""
    return FLAGS.get(text.strip().lower())


def parse_numbers(texts: Sequence[str]) -> list[float]:
    """Convert strings to numbers; NaN where a string is not a number."""
    values = []
    for text in texts:
        try:
            values.append(float(text))
        except ValueError:
            values.append(float("nan"))
    return values
