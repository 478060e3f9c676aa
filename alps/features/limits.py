"""Valid settings of features."""

from __future__ import annotations

from collections.abc import Mapping

from alps.structures.settings import TILES, Choice, Flag, Limits, ListOf, Number

#: Strides of the feature maps of `alps.pretrained.encoder.Encoder`.
STRIDES = (4, 8, 16, 32)
MEAN, STD = (
    ListOf(
        each=each,
        noun=f"a list of three numbers {bounds}",
        holds=lambda v: len(v) == 3,
        also=(None,),
    )
    for each, bounds in (
        (Number(at_least=0, at_most=255), ">= 0 and <= 255"),
        (Number(above=0, at_most=255), "> 0 and <= 255"),
    )
)
WEIGHT = Number(at_least=0, noun="a weight")
PAIR = ListOf(each=Number(), noun="a pair", holds=lambda pair: len(pair) == 2 and pair[0] < pair[1])

LIMITS: Mapping[str, Limits] = {
    "alps.features.SamFeatures": {"normalize": Flag(), **TILES},
    "alps.features.ShapeFeatures": {
        "color": WEIGHT,
        "shape": WEIGHT,
        "bands": WEIGHT,
        "band_limits": ListOf(
            each=PAIR, noun="a list of [minimum, maximum] for each of dataset.bands", also=(None,)
        ),
        **TILES,
    },
    "alps.features.SscdFeatures": {
        "model": Choice(("sscd", "sscd_distilled")),
        "box_size": Number(at_least=1, integer=True, noun="an integer number of pixels"),
    },
    "alps.features.TimmFeatures": {
        "mean": MEAN,
        "std": STD,
        "strides": ListOf(each=Choice(STRIDES), noun="a list of one or more of 4, 8, 16, 32"),
        "pool": Choice(("mask", "box", "both")),
        "scale": Number(above=0),
        "box_size": Number(at_least=32, integer=True, multiple_of=32, noun="a multiple of 32 px"),
        "normalize": Flag(),
        **TILES,
    },
}
