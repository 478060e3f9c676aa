"""Words of a command line that choose a file of a configuration group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError


def refuse_null_choices(words: Sequence[str], conf: Path, hints: Mapping[str, str]) -> None:
    """Refuse ``GROUP=null``, which Hydra answers with a traceback.

    Args:
        words: of the command line.
        conf: folder of the groups.
        hints: what else to say, by group.

    Raises:
        ConfigError: a group is null.
    """
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        group = key.partition("@")[0].strip("/")
        if "null" not in value.lower().split(",") or not group or not (conf / group).is_dir():
            continue
        names = "|".join(sorted(path.stem for path in (conf / group).glob("*.yaml")))
        raise ConfigError(
            f"{word}: nothing cannot be chosen, expected {group}={names}; or leave the word out"
            + hints.get(group, "")
        )
