"""Valid settings of training data."""

from __future__ import annotations

from alps.structures.settings import Limits, ListOf, Number

PROBABILITY = Number(at_least=0, at_most=1, noun="a probability")
FRACTION = Number(above=0, at_most=1, noun="a fraction of the images")

#: Settings of the group ``data``. Crops are multiples of `alps.pretrained.encoder.Encoder.divisor`.
DATA: Limits = {
    "batch_size": Number(at_least=1, integer=True),
    "crop": Number(
        at_least=32, integer=True, multiple_of=32, also=(None,), noun="a multiple of 32 px"
    ),
    "scale": ListOf(
        each=Number(above=0),
        noun="the minimum and the maximum, such as [0.5,2.0]",
        holds=lambda scale: len(scale) == 2 and scale[0] <= scale[1],
    ),
    "scale_p": PROBABILITY,
    "photometric": PROBABILITY,
    "cat_max_ratio": Number(above=0, at_most=1, noun="a fraction"),
    "ignore_border": Number(at_least=0, integer=True, noun="an integer number of pixels"),
    "fraction": FRACTION,
    "hold_out": Number(above=0, below=1, noun="a fraction of the images"),
    "num_workers": Number(at_least=0, integer=True, also=(None,)),
}
