"""Valid settings of the loss and the optimiser."""

from __future__ import annotations

from collections.abc import Mapping

from alps.structures.settings import Choice, Limits, ListOf, Number

LIMITS: Mapping[str, Limits] = {
    "alps.training.CrossEntropy": {
        "label_smoothing": Number(at_least=0, below=1, noun="a fraction"),
        "class_weights": ListOf(
            each=Number(at_least=0),
            noun="a list of numbers >= 0, of which at least one is > 0",
            holds=any,
            also=(None,),
        ),
    },
    "alps.training.Optim": {
        "lr": Number(above=0),
        "weight_decay": Number(at_least=0),
        "layer_decay": Number(above=0, at_most=1, noun="a factor"),
        "warmup": Number(at_least=0, below=1, noun="a fraction of the steps"),
        "schedule": Choice(("poly", "cosine", "constant")),
        "power": Number(above=0),
        "min_lr": Number(at_least=0, at_most="lr", noun="a learning rate"),
    },
}
