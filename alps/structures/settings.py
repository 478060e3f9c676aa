"""Kinds of settings: their valid values and the message about an invalid one.

The module ``limits`` of a package describes the settings of its classes. These modules import no
other library, so that programs can reject a setting before the imports that take seconds.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from alps.errors import ConfigError

Settings = Mapping[str, Any]
#: Maps a parameter to the name that the user knows it by, such as ``masks.points_per_side``.
Key = Callable[[str], str]

#: A number, or the name of the setting whose value it is.
Bound = int | float | str | None

NO_OTHERS: Settings = MappingProxyType({})
BOUNDS = (
    ("at_least", operator.ge, ">="),
    ("above", operator.gt, ">"),
    ("at_most", operator.le, "<="),
    ("below", operator.lt, "<"),
)


@runtime_checkable
class Setting(Protocol):
    """The valid values of a setting."""

    def expected(self, value: Any, others: Settings = NO_OTHERS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values.

        Args:
            value: value of the setting.
            others: all settings of the same class, by parameter; some may be absent.
            key: names a parameter in the description.
        """


#: Settings of a class by parameter. A setting may refer to those above it.
Limits = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A finite number in a range; booleans are not numbers.

    A bound that is a string stands for the value of that setting.

    Args:
        at_least: lowest valid value.
        above: largest value that is too low.
        at_most: highest valid value.
        below: lowest value that is too high.
        whole: accept integers only.
        multiple_of: accept multiples of this integer only.
        also: further valid values, such as None.
        noun: name of the number in the description; empty: "a number" or "a whole number".
    """

    at_least: Bound = None
    above: Bound = None
    at_most: Bound = None
    below: Bound = None
    whole: bool = False
    multiple_of: int | None = None
    also: tuple[Any, ...] = ()
    noun: str = ""

    def expected(self, value: Any, others: Settings = NO_OTHERS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values.

        >>> share = Number(at_least=0, below=1, noun="a share")
        >>> share.expected(1)
        'a share >= 0 and < 1'
        """
        if value in self.also:
            return None
        valid, texts = self._is_number(value), []
        for name, holds, sign in BOUNDS:
            bound = getattr(self, name)
            text = f"{sign} {bound}"
            if isinstance(bound, str):
                text = f"{sign} {key(bound)}={others.get(bound)}"
                bound = others.get(bound)
            if bound is not None:
                texts.append(text)
                valid = valid and holds(value, bound)
        if valid:
            return None
        noun = self.noun or ("a whole number" if self.whole else "a number")
        return _either(*map(_shown, self.also), " ".join([noun, " and ".join(texts)]).strip())

    def _is_number(self, value: Any) -> bool:
        """Return whether a value is a finite number of the right kind."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return -math.inf < value < math.inf and (
            self.multiple_of is None or value % self.multiple_of == 0
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values.

    Args:
        options: the values.
    """

    options: tuple[Any, ...]

    def expected(self, value: Any, others: Settings = NO_OTHERS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        return None if value in self.options else _either(*map(_shown, self.options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """True or False.

    Args:
        needs: another setting, which has to be set if this one is True.
    """

    needs: str | None = None

    def expected(self, value: Any, others: Settings = NO_OTHERS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        if not isinstance(value, bool):
            return "true or false"
        if value and self.needs is not None and others.get(self.needs) is None:
            return f"false, or a value of {key(self.needs)} as well"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list of values of one kind.

    Args:
        each: the valid entries.
        noun: description of the list.
        holds: condition on the whole list; by default it must not be empty.
        also: further valid values, such as None.
    """

    each: Setting
    noun: str
    holds: Callable[[Sequence[Any]], bool] = bool
    also: tuple[Any, ...] = ()

    def expected(self, value: Any, others: Settings = NO_OTHERS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        if value in self.also:
            return None
        if isinstance(value, Sequence) and not isinstance(value, str):
            entries_valid = all(self.each.expected(entry, others, key) is None for entry in value)
            if entries_valid and self.holds(value):
                return None
        return _either(*map(_shown, self.also), self.noun)


#: A number of pixels that is not 0, and the settings of tiles in pixels.
PIXELS = Number(at_least=1, whole=True, noun="whole pixels")
TILES: Limits = {
    "tile_size": PIXELS,
    "tile_overlap": Number(at_least=0, below="tile_size", whole=True, noun="whole pixels"),
}


def check_settings(limits: Limits, settings: Settings, key: Key = str) -> None:
    """Raise `ConfigError` unless all settings of a class are valid.

    Args:
        limits: the valid values.
        settings: the values; absent ones are not checked.
        key: names a parameter in the message.

    Raises:
        ConfigError: a setting is invalid.
    """
    for name, setting in limits.items():
        if name in settings:
            value = settings[name]
            expected = setting.expected(value, settings, key)
            if expected is not None:
                raise ConfigError(f"{key(name)}={_shown(value)}: expected {expected}")


def check_attributes(limits: Limits, instance: object) -> None:
    """Raise `ConfigError` unless the attributes of an object are valid settings of its class."""
    check_settings(limits, {name: getattr(instance, name) for name in limits})


def _either(*options: str) -> str:
    """Join descriptions as "a, b or c"."""
    return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))


def _shown(value: Any) -> str:
    """Return a value as it is written in a configuration."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
