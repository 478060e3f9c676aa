"""Checks of the settings of ALPS's classes in a configuration, before their slow imports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alps.assign.limits import LIMITS as ASSIGN
from alps.features.limits import LIMITS as FEATURES
from alps.labelling.limits import LIMITS as LABELLING
from alps.masks.limits import LIMITS as MASKS
from alps.prediction.limits import LIMITS as PREDICTION
from alps.sam.limits import LIMITS as SAM
from alps.structures.settings import Limits, check_settings
from alps.training.limits import LIMITS as TRAINING

#: Settings of each class by its public name.
LIMITS: Mapping[str, Limits] = {
    **SAM,
    **MASKS,
    **FEATURES,
    **ASSIGN,
    **LABELLING,
    **PREDICTION,
    **TRAINING,
}
INTERPOLATION = re.compile(r"\$\{(\w[\w.]*)\}")


def check_classes(cfg: DictConfig) -> None:
    """Raise `ConfigError` if a setting of a class in `LIMITS` is invalid, wherever it is used."""
    for path, node in _classes(cfg):
        if (limits := LIMITS.get(node["_target_"])) is not None:
            check_node(limits, path, node)


def check_node(limits: Limits, path: str, node: DictConfig) -> None:
    """Raise `ConfigError` if a setting of one part of a configuration is invalid.

    Args:
        limits: the valid values.
        path: of the part, for the message; empty for the whole configuration.
        node: the part.
    """

    def key(name: str) -> str:
        """Return the key that sets a parameter: ``tile.size`` for ``tile_size: ${tile.size}``."""
        source = INTERPOLATION.fullmatch(str(written.get(name)))
        return source[1] if source else f"{path}.{name}".lstrip(".")

    written, values = _plain(node, limits, resolve=False), _plain(node, limits, resolve=True)
    check_settings(limits, {k: v for k, v in values.items() if v != "???"}, key)


def _plain(node: DictConfig, limits: Limits, *, resolve: bool) -> dict[str, Any]:
    """Return the settings of a part that have limits, as plain containers."""
    part = OmegaConf.masked_copy(node, [name for name in limits if name in node])
    part._set_parent(node._get_parent())
    plain = OmegaConf.to_container(part, resolve=resolve, throw_on_missing=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _classes(node: DictConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yield the parts of a configuration that describe an object, with their paths."""
    if "_target_" in node:
        yield path, node
    for name in node:
        if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, str(name)):
            continue
        if isinstance(node[name], DictConfig):
            yield from _classes(node[name], f"{path}.{name}".lstrip("."))
