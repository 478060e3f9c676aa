"""Valid settings of prediction."""

from __future__ import annotations

from collections.abc import Mapping

from alps.rasters.formats import VECTORS
from alps.structures.settings import Choice, Flag, Limits, ListOf, Number

#: What is written beside index maps.
FILES: Limits = {"vector": Choice((None, *VECTORS)), "probability": Flag()}
LIMITS: Mapping[str, Limits] = {
    "alps.prediction.SlidingWindow": {
        "crop": Number(at_least=1, integer=True, noun="an integer number of pixels"),
        "overlap": Number(at_least=0, below=1, noun="a fraction of the crop"),
        "blend": Choice(("gaussian", "mean")),
        "batch_size": Number(at_least=1, integer=True),
        "scales": ListOf(each=Number(above=0), noun="a list of numbers > 0"),
        "flip": Flag(),
    }
}
