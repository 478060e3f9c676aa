"""Valid values of settings, and the message about an invalid value.

The module ``limits`` of a package describes the settings of its classes. These modules import
no libraries, so that programs can reject a setting before imports that take seconds.
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
#: Maps a parameter to its name in the configuration, such as ``masks.points_per_side``.
Key = Callable[[str], str]

#: A number, or the name of the setting that has this number as its value.
Bound = int | float | str | None

NO_SETTINGS: Settings = MappingProxyType({})
BOUNDS = (
    ("at_least", operator.ge, ">="),
    ("above", operator.gt, ">"),
    ("at_most", operator.le, "<="),
    ("below", operator.lt, "<"),
)


@runtime_checkable
class Setting(Protocol):
    """The valid values of a setting."""

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values.

        Args:
            value: value of the setting.
            settings: all settings of the same class, by parameter; some may be absent.
            key: returns the name of a parameter for the description.
        """


#: Settings of a class by parameter. A setting may refer to settings above it.
Limits = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A finite number in a range; booleans are not numbers.

    A bound that is a string stands for the value of that setting.

    Args:
        at_least: lowest valid value.
        above: exclusive lower bound.
        at_most: highest valid value.
        below: exclusive upper bound.
        integer: accept integers only.
        multiple_of: accept multiples of this integer only.
        also: further valid values, such as None.
        noun: name of the number in the description; empty: "a number" or "an integer".
    """

    at_least: Bound = None
    above: Bound = None
    at_most: Bound = None
    below: Bound = None
    integer: bool = False
    multiple_of: int | None = None
    also: tuple[Any, ...] = ()
    noun: str = ""

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values.

        >>> fraction = Number(at_least=0, below=1, noun="a fraction")
        >>> fraction.expected(1)
        'a fraction >= 0 and < 1'
        """
        if value in self.also:
            return None
        valid, texts = self._is_number(value), []
        for name, compare, sign in BOUNDS:
            bound = getattr(self, name)
            text = f"{sign} {bound}"
            if isinstance(bound, str):
                text = f"{sign} {key(bound)}={settings.get(bound)}"
                bound = settings.get(bound)
            if bound is not None:
                texts.append(text)
                valid = valid and compare(value, bound)
        if valid:
            return None
        noun = self.noun or ("an integer" if self.integer else "a number")
        return _join_options(
            *map(_format_value, self.also), " ".join([noun, " and ".join(texts)]).strip()
        )

    def _is_number(self, value: Any) -> bool:
        """Return whether a value is a finite number of the right kind."""
        if isinstance(value, bool) or not isinstance(value, int if self.integer else int | float):
            return False
        return -math.inf < value < math.inf and (
            self.multiple_of is None or value % self.multiple_of == 0
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a list of values.

    Args:
        options: the values.
    """

    options: tuple[Any, ...]

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        return None if value in self.options else _join_options(*map(_format_value, self.options))


@dataclass(frozen=True, slots=True)
class Flag:
    """True or False."""

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        return None if isinstance(value, bool) else "true or false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """A setting that has no effect without another one.

    Args:
        setting: the valid values.
        off: the value that needs no other setting.
        needs: name of a setting that must not be None if the value is not ``off``.
    """

    setting: Setting
    off: Any
    needs: str

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        invalid = self.setting.expected(value, settings, key)
        if invalid is None and value != self.off and settings.get(self.needs) is None:
            return f"{_format_value(self.off)}, or a value for {key(self.needs)} as well"
        return invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list of values of one kind.

    Args:
        each: the valid entries.
        noun: description of the list.
        holds: condition on the list; by default, the list must not be empty.
        also: further valid values, such as None.
    """

    each: Setting
    noun: str
    holds: Callable[[Sequence[Any]], bool] = bool
    also: tuple[Any, ...] = ()

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        if value in self.also:
            return None
        if isinstance(value, Sequence) and not isinstance(value, str):
            entries_valid = all(self.each.expected(entry, settings, key) is None for entry in value)
            if entries_valid and self.holds(value):
                return None
        return _join_options(*map(_format_value, self.also), self.noun)


#: A positive number of pixels.
PIXELS = Number(at_least=1, integer=True, noun="an integer number of pixels")
#: The settings of tiles.
TILES: Limits = {
    "tile_size": PIXELS,
    "tile_overlap": Number(
        at_least=0, below="tile_size", integer=True, noun="an integer number of pixels"
    ),
}


def check_settings(limits: Limits, settings: Settings, key: Key = str) -> None:
    """Raise `ConfigError` unless all settings of a class are valid.

    Args:
        limits: the valid values.
        settings: the values by parameter; missing parameters are not checked.
        key: returns the name of a parameter for the message.

    Raises:
        ConfigError: a setting is invalid.
    """
    for name, setting in limits.items():
        if name in settings:
            value = settings[name]
            expected = setting.expected(value, settings, key)
            if expected is not None:
                raise ConfigError(f"{key(name)}={_format_value(value)}: expected {expected}")


def check_attributes(limits: Limits, instance: object) -> None:
    """Raise `ConfigError` unless the attributes of an object are valid settings of its class."""
    check_settings(limits, {name: getattr(instance, name) for name in limits})


def _join_options(*options: str) -> str:
    """Join descriptions as "a, b or c"."""
    return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))


def _format_value(value: Any) -> str:
    """Return a value as it is written in a configuration."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
