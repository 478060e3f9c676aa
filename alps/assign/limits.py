"""Valid settings of assigners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alps.errors import ConfigError
from alps.structures.settings import Choice, Dependent, Limits, ListOf, Number, check_settings

COUNT = Number(at_least=1, integer=True)
SEED = Number(at_least=0, integer=True)
FILL = Number(at_least=0, integer=True, noun="an integer number of pixels")
#: In a configuration, the groups of the features that are computed.
AUTO = "auto"
CHOOSE_K: Limits = {
    "choose_k": ListOf(
        each=Number(at_least=2, integer=True),
        noun="null or a list of integers >= 2, such as [8,16,32,64]",
    )
}

NO_FEATURES = (
    "assign=cluster needs features, but features is null; choose features=NAME, or use "
    "assign=random|binary|category, which need no features"
)

LIMITS: Mapping[str, Limits] = {
    "alps.assign.Cluster": {
        "k": COUNT,
        "niter": COUNT,
        "tol": Number(at_least=0, below=1, noun="a fraction of the inertia"),
        "batch_size": COUNT,
        "seed": SEED,
        "metric": Choice(("euclidean", "spherical")),
        "pca": Number(at_least=1, integer=True, also=(None,)),
        "whiten": Dependent(
            setting=Number(at_least=0, at_most=1, also=(False, True)), off=False, needs="pca"
        ),
        "channel_groups": Dependent(
            setting=ListOf(each=COUNT, noun="a list of numbers of channels", also=(None, AUTO)),
            off=None,
            needs="pca",
        ),
        "restarts": COUNT,
        "weight": Choice(("none", "sqrt_area", "area")),
        "merge": Number(at_least=1, at_most="k", integer=True, also=(None,)),
        "reject": Number(at_least=0, below=1, noun="a fraction of the masks"),
        "fill": FILL,
    },
    "alps.assign.Predicted": {
        "min_confidence": Number(at_least=0, at_most=1, noun="a probability")
    },
    "alps.assign.Random": {"k": COUNT, "seed": SEED, "fill": FILL},
}


def check_ks(assigner: str, ks: Any, *, k: int | None = None, merge: int | None = None) -> None:
    """Raise `ConfigError` unless an assigner can produce several numbers of classes.

    Args:
        assigner: public name of the assigner's class.
        ks: the numbers of classes to compare.
        k: number of clusters.
        merge: number of classes that the clusters are merged into; None: each cluster is a class.

    Raises:
        ConfigError: the assigner does not cluster, or a number exceeds the number of clusters.
    """
    if assigner != "alps.assign.Cluster":
        raise ConfigError(
            f"choose_k compares clusterings, but {assigner} does not cluster; use assign=cluster "
            "or choose_k=null"
        )
    check_settings(CHOOSE_K, {"choose_k": ks})
    if merge is not None and k is not None and max(ks) > k:
        raise ConfigError(
            f"choose_k requests {max(ks)} classes, but assign.k={k} gives only {k} clusters to "
            "merge: raise assign.k"
        )
