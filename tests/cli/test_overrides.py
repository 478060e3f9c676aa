"""An argument that Hydra cannot parse is one line, with what to type instead."""

import random
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from alps.cli.overrides import quote

AWKWARD = "ab'\"\\ (),=[]{}:$!`#~ßé日\t"


def test_what_is_to_be_typed_gives_the_same_value_through_shell_and_hydra():
    draw, parser = random.Random(0), OverridesParser.create()
    for _ in range(500):
        value = "".join(draw.choice(AWKWARD) for _ in range(draw.randint(0, 8)))
        (argument,) = shlex.split(quote(f"+a.b={value}"))
        if "${" not in value:  # which stays an interpolation
            assert parser.parse_override(argument).value() == value


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        ("images (2019)", "\"dataset.root='images (2019)'\""),
        ("größe", "\"dataset.root='größe'\""),
        ("it's", r'''"dataset.root='it\'s'"'''),
        ("a$b", "'dataset.root=\"a$b\"'"),
    ],
)
def test_the_plainest_quotes_are_chosen(value, typed):
    assert quote(f"dataset.root={value}") == typed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["dataset.root=a (1)"],
            "dataset.root=a (1): this argument cannot be parsed; if its value is text, type "
            "\"dataset.root='a (1)'\"",
        ),
        (
            ["-m", "dataset.root=a#1"],
            "dataset.root=a#1: this argument cannot be parsed; if its value is text, type "
            "\"dataset.root='a#1'\"",
        ),
        (
            ["dataset.root=[a,b"],
            "dataset.root=[a,b: this argument cannot be parsed; for a list or a mapping, check its "
            "brackets and quotes; if its value is text, type \"dataset.root='[a,b'\"",
        ),
        (
            ["dataset.root=my", "(1)", "images", "-m"],
            "(1): this argument has no '='; if the spaces around it belong to a value, type "
            "\"dataset.root='my (1) images'\"",
        ),
        (["images"], "images: this argument has no '='; an override is KEY=VALUE"),
        (
            ["dataset root=3"],
            "dataset root=3: 'dataset root' cannot be the name of a setting; an override is "
            "KEY=VALUE",
        ),
        (
            ["dataset.root=a,b"],
            "dataset.root=a,b: the comma separates values; for a single value, type "
            '"dataset.root=\'a,b\'"; for a list, "dataset.root=[a,b]"; to run one value after '
            "the other, add -m",
        ),
        (
            ["+dataset=sample,samrs"],
            "+dataset=sample,samrs: choose one; to run them one after the other, add -m",
        ),
        (
            ["+dataset=samrs", "mask.min_area=8"],
            "mask.min_area: no such setting; did you mean masks.min_area?",
        ),
        (
            ["+dataset=samrs", "seed.x=8"],
            "seed.x: no such setting; seed has no settings",
        ),
        (
            ["+dataset=samrs", "tile.qqq=8"],
            "tile.qqq: no such setting, expected one of size, overlap; to add it, type "
            '"+tile.qqq=8"',
        ),
    ],
)
def test_label_names_the_argument_and_suggests_a_correction(arguments, message, label):
    done = label(*arguments)
    assert (done.returncode, done.stderr) == (1, f"error: {message}\n")


def test_train_suggests_a_correction_too(train):
    status, _, err = train("stage=predict", "input=my (1)")
    assert status == 1
    assert err == (
        "error: input=my (1): this argument cannot be parsed; if its value is text, type "
        "\"input='my (1)'\"\n"
    )


@pytest.mark.parametrize("value", ["", "''", "[]", "{}", "{a:1}", "3", "true", "sam,null"])
def test_a_group_without_a_name_is_one_line(value, label):
    done = label("+dataset=sample", f"features={value}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: features={value}: not a valid choice; expected ")
    assert done.stderr.count("\n") == 1
