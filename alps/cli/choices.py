"""Checks of command-line arguments that choose a file of a configuration group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError

#: Values that cannot be the name of a file of a group. Hydra raises an obscure error for some of
#: them and silently drops the group for the rest.
NOT_A_NAME = re.compile(r"(?i)|null|true|false|\[\s*\]|\{.*|[+-]?[\d.]+")


def refuse_null_choices(overrides: Sequence[str], conf: Path, hints: Mapping[str, str]) -> None:
    """Reject ``GROUP=null`` and similar values: an empty value, an empty list, a number.

    Args:
        overrides: arguments of the command line.
        conf: folder of the configuration groups.
        hints: text to append to the error message, by name of the group.

    Raises:
        ConfigError: an argument does not name a file of its group.
    """
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group = key.partition("@")[0].strip("/")
        is_empty = any(NOT_A_NAME.fullmatch(part.strip("'\" ")) for part in value.split(","))
        if not is_empty or "=" not in override or not group or not (conf / group).is_dir():
            continue
        names = "|".join(sorted(path.stem for path in (conf / group).glob("*.yaml")))
        raise ConfigError(
            f"{override}: not a valid choice; expected {group}={names}, or omit the argument"
            + hints.get(group, "")
        )
