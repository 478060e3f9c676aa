import math

import pytest

from alps.errors import ConfigError
from alps.structures.numbers import check_number, check_numbers, is_number


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1)", (0, 0.0, 0.999), (1, -1e-9, math.nan, math.inf)),
        ("(0, 1]", (1, 1e-9), (0, 1.1)),
        ("[-1, inf)", (-1, 10**30), (-2, math.inf)),
    ],
)
def test_ends_belong_to_an_interval_or_not(interval, inside, outside):
    assert all(is_number(value, interval) for value in inside)
    assert not any(is_number(value, interval) for value in outside)


@pytest.mark.parametrize("value", [None, "1", True, [1], 1j])
def test_what_is_no_number(value):
    assert not is_number(value, "[0, 2]")
    assert not is_number(1.0, "[0, 2]", whole=True)


@pytest.mark.parametrize(
    ("value", "interval", "options", "message"),
    [
        (None, "[0, 1)", {}, "a.b=null: expected a number in [0, 1)"),
        (-1, "[0, inf)", {}, "a.b=-1: expected a number from 0 on"),
        ("x", "(0, inf)", {"what": "a rate"}, "a.b=x: expected a rate above 0"),
        (1.5, "[1, inf)", {"whole": True}, "a.b=1.5: expected a whole number from 1 on"),
        (0, "[1, 9]", {"optional": True}, "a.b=0: expected null or a number in [1, 9]"),
    ],
)
def test_the_message_says_what_was_set_and_what_is_wanted(value, interval, options, message):
    with pytest.raises(ConfigError) as error:
        check_number("a.b", value, interval, **options)
    assert str(error.value) == message


def test_null_where_it_may_be():
    check_number("a.b", None, "[0, 1]", optional=True)
    check_numbers("a.b", None, "[0, 1]", "a list", optional=True)


@pytest.mark.parametrize("values", [None, 1, "11", [], [1, None], [0.5, 2]])
def test_lists(values):
    check_numbers("a.b", [0, 1], "[0, 1]", "a list")
    with pytest.raises(ConfigError, match=r"a\.b=.*: expected a list of shares"):
        check_numbers("a.b", values, "[0, 1]", "a list of shares")
