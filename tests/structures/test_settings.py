import math

import pytest

from alps.errors import ConfigError
from alps.structures.settings import Choice, Dependent, Flag, ListOf, Number, check_settings


@pytest.mark.parametrize(
    ("number", "inside", "outside"),
    [
        (Number(at_least=0, below=1), (0, 0.0, 0.999), (1, -1e-9, math.nan, math.inf)),
        (Number(above=0, at_most=1), (1, 1e-9), (0, 1.1)),
        (Number(at_least=-1), (-1, 10**400), (-2, math.inf, -math.inf)),
        (Number(at_least=32, integer=True, multiple_of=32), (32, 96), (0, 33, 64.0)),
        (Number(at_least=4, integer=True, also=(0, None)), (0, None, 4), (3, "4")),
    ],
)
def test_bounds_belong_to_a_range_or_not(number, inside, outside):
    assert all(number.expected(value) is None for value in inside)
    assert all(number.expected(value) is not None for value in outside)


@pytest.mark.parametrize("value", [None, "1", True, [1], 1j])
def test_values_that_are_no_number(value):
    assert Number(at_least=0, at_most=2).expected(value) is not None


@pytest.mark.parametrize(
    ("value", "setting", "message"),
    [
        (None, Number(at_least=0, below=1), "a=null: expected a number >= 0 and < 1"),
        ("x", Number(above=0, noun="a rate"), "a=x: expected a rate > 0"),
        (1.5, Number(at_least=1, integer=True), "a=1.5: expected an integer >= 1"),
        (0, Number(at_least=1, also=("auto",)), "a=0: expected auto or a number >= 1"),
        (True, Number(), "a=true: expected a number"),
        ("b", Choice(("c", "d", None)), "a=b: expected c, d or null"),
        (1, Flag(), "a=1: expected true or false"),
        ([2], ListOf(each=Number(below=2), noun="shares", also=(None,)), "a=[2]: expected null or"),
    ],
)
def test_the_message_names_setting_value_and_valid_values(value, setting, message):
    with pytest.raises(ConfigError) as error:
        check_settings({"a": setting}, {"a": value})
    assert str(error.value).startswith(message)


def test_a_bound_may_be_another_setting():
    limits = {"k": Number(at_least=1), "merge": Number(at_most="k", also=(None,))}
    for merge in (None, 3):
        check_settings(limits, {"k": 3, "merge": merge})
    check_settings(limits, {"merge": 4})
    with pytest.raises(ConfigError, match=r"^x\.merge=4: expected null or a number <= x\.k=3$"):
        check_settings(limits, {"k": 3, "merge": 4}, lambda name: f"x.{name}")


def test_a_setting_may_need_another_one():
    limits = {"whiten": Dependent(setting=Flag(), off=False, needs="pca")}
    check_settings(limits, {"whiten": True, "pca": 8})
    check_settings(limits, {"whiten": False, "pca": None})
    with pytest.raises(ConfigError, match=r"^whiten=2: expected true or false$"):
        check_settings(limits, {"whiten": 2, "pca": 8})
    expected = r"^whiten=true: expected false, or a value for pca as well"
    with pytest.raises(ConfigError, match=expected):
        check_settings(limits, {"whiten": True, "pca": None})


@pytest.mark.parametrize("values", [None, 1, "11", [], [1, None], [0.5, 2]])
def test_lists(values):
    shares = ListOf(each=Number(at_least=0, at_most=1), noun="a list of shares")
    assert shares.expected([0, 1]) is None
    assert shares.expected(values) == "a list of shares"
