"""Error messages for invalid command-line overrides, which suggest a corrected argument."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from alps.errors import ConfigError

#: Name of a setting in the override grammar, with the signs that may precede it.
KEY = re.compile(r"[+~]*[A-Za-z_$][\w$./@:-]*", re.ASCII)
#: Beginnings of Hydra's messages about a comma outside a sweep and about an unknown setting.
AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.*?)'\n", re.DOTALL)
UNKNOWN = re.compile(r"Could not override '(.*?)'\.\n.* use \+(.*)")


@contextmanager
def explained(arguments: Sequence[str], conf: Path, error_class: type[Exception]) -> Iterator[None]:
    """Replace errors of the configuration library by messages with a corrected argument.

    Args:
        arguments: arguments of the command line, as the shell passed them.
        conf: folder of the configuration groups.
        error_class: exception of the configuration library, with the argument as ``override``.

    Raises:
        ConfigError: an argument cannot be parsed, or its setting does not exist.
    """
    try:
        yield
    except error_class as error:
        message = _message(error, arguments, conf)
        if message is None:
            raise
        raise ConfigError(message) from error


def quote(override: str) -> str:
    """Return ``KEY=VALUE`` quoted for a shell so that VALUE is literal text.

    >>> print(quote("dataset.root=images (2019)"))
    "dataset.root='images (2019)'"
    """
    key, _, value = override.partition("=")
    forms = [f"{key}={_literal(value, sign)}" for sign in ("'", '"')]
    return min(map(_shell, forms), key=len)


def _message(error: Exception, arguments: Sequence[str], conf: Path) -> str | None:
    if (override := getattr(error, "override", None)) is not None:
        return _explain(override, arguments)
    if (comma := AMBIGUOUS.match(str(error))) is not None:
        return _explain_comma(comma[1], conf)
    node = getattr(error.__cause__, "parent_node", None)
    if (unknown := UNKNOWN.match(str(error))) is not None and isinstance(node, Mapping):
        full_key = str(getattr(error.__cause__, "full_key", ""))
        return _explain_unknown(unknown[1], unknown[2], full_key, _settings(node))
    return None


def _explain(override: str, arguments: Sequence[str]) -> str:
    key, equal, value = override.partition("=")
    if not equal and not override.startswith("~"):
        remedy = "an override is KEY=VALUE"
        if (joined := _with_neighbours(override, arguments)) is not None:
            remedy = f"if the spaces around it belong to a value, type {quote(joined)}"
        return f"{override}: this argument has no '='; {remedy}"
    if not KEY.fullmatch(key):
        return f"{override}: {key!r} cannot be the name of a setting; an override is KEY=VALUE"
    remedy = f"if its value is text, type {quote(override)}"
    if value[:1] in ("[", "{"):
        remedy = f"for a list or a mapping, check its brackets and quotes; {remedy}"
    return f"{override}: this argument cannot be parsed; {remedy}"


def _explain_comma(override: str, conf: Path) -> str:
    key, _, value = override.partition("=")
    if (conf / key.lstrip("+~").partition("@")[0]).is_dir():
        return f"{override}: choose one; to run them one after the other, add -m"
    return (
        f"{override}: the comma separates values; for a single value, type {quote(override)}; "
        f"for a list, {_shell(f'{key}=[{value}]')}; to run one value after the other, add -m"
    )


def _explain_unknown(key: str, override: str, full_key: str, settings: Sequence[str]) -> str:
    """Return the message about an unknown setting.

    Args:
        key: name of the setting on the command line.
        override: the complete argument, without a leading ``+``.
        full_key: leading part of ``key`` up to the first name that does not exist.
        settings: names that exist at that level.
    """
    parent, dot, name = full_key.rpartition(".")
    if similar := get_close_matches(name, settings, n=1):
        return (
            f"{key}: no such setting; did you mean {parent}{dot}{similar[0]}{key[len(full_key) :]}?"
        )
    if not settings:
        return f"{key}: no such setting; {parent} has no settings"
    return (
        f"{key}: no such setting, expected one of {', '.join(settings)}; to add it, type "
        f"{_shell(f'+{override}')}"
    )


def _settings(node: Mapping[object, object]) -> list[str]:
    return [str(key) for key in node if key not in ("hydra", "_target_")]


def _with_neighbours(word: str, arguments: Sequence[str]) -> str | None:
    """Rejoin an override that the shell has split at spaces, or return None."""
    index = arguments.index(word) if word in arguments else 0
    first = index
    while first > 0 and "=" not in arguments[first]:
        first -= 1
    if "=" not in arguments[first]:
        return None
    last = index + 1
    while last < len(arguments) and "=" not in arguments[last] and arguments[last][:1] != "-":
        last += 1
    return " ".join(arguments[first:last])


def _literal(text: str, sign: str) -> str:
    """Quote text for Hydra's grammar, in which a backslash is an escape only before a quote."""
    escaped = re.sub(rf"(\\*){sign}", lambda m: f"{m[1] * 2}\\{sign}", text)
    return sign + re.sub(r"(\\+)$", r"\1\1", escaped) + sign


def _shell(word: str) -> str:
    """Quote an argument for a shell, in double quotes unless it has characters special in them."""
    return shlex.quote(word) if re.search(r'["$`!]|\\[\\\n]', word) else f'"{word}"'
