"""Command-line arguments that choose a file of a configuration group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError

#: Values that name no file of a group. Hydra raises an obscure error for some of them and silently
#: drops the group for others.
NO_NAME = re.compile(r"(?i)|null|true|false|\[\s*\]|\{.*|[+-]?[\d.]+")


def refuse_null_choices(words: Sequence[str], conf: Path, hints: Mapping[str, str]) -> None:
    """Reject ``GROUP=null`` and similar values: an empty value, an empty list, a number.

    Args:
        words: arguments of the command line.
        conf: folder of the configuration groups.
        hints: text to append to the error message, by group.

    Raises:
        ConfigError: an argument chooses no file of its group.
    """
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        group = key.partition("@")[0].strip("/")
        names_nothing = any(NO_NAME.fullmatch(part.strip("'\" ")) for part in value.split(","))
        if not names_nothing or "=" not in word or not group or not (conf / group).is_dir():
            continue
        names = "|".join(sorted(path.stem for path in (conf / group).glob("*.yaml")))
        raise ConfigError(
            f"{word}: nothing cannot be chosen, expected {group}={names}; or omit the argument"
            + hints.get(group, "")
        )
