"""Valid settings of the losses and the optimiser."""

from __future__ import annotations

from collections.abc import Mapping

from alps.structures.settings import Choice, Flag, Limits, ListOf, Number

CLASS_WEIGHTS = ListOf(
    each=Number(at_least=0),
    noun="a list of numbers >= 0, of which at least one is > 0",
    holds=any,
    also=(None,),
)

LIMITS: Mapping[str, Limits] = {
    "alps.training.CrossEntropy": {
        "label_smoothing": Number(at_least=0, below=1, noun="a fraction"),
        "class_weights": CLASS_WEIGHTS,
    },
    "alps.training.GeneralizedCrossEntropy": {
        "q": Number(above=0, at_most=1),
        "class_weights": CLASS_WEIGHTS,
    },
    "alps.training.SymmetricCrossEntropy": {
        "alpha": Number(above=0, noun="a weight"),
        "beta": Number(at_least=0, noun="a weight"),
        "class_weights": CLASS_WEIGHTS,
    },
    "alps.training.BootstrappedCrossEntropy": {
        "beta": Number(above=0, at_most=1, noun="a fraction"),
        "hard": Flag(),
        "class_weights": CLASS_WEIGHTS,
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
