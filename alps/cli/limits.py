"""Checks of the settings of classes in a configuration, without importing the classes."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
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


def check_classes(cfg: DictConfig, *, filled_in: Container[str] = ()) -> None:
    """Check the settings of the classes in `LIMITS`, wherever a configuration uses them.

    Args:
        cfg: the configuration.
        filled_in: keys that may be null because train.py replaces null.

    Raises:
        ConfigError: a setting is invalid.
    """
    for path, node in classes_in(cfg):
        check_node(LIMITS.get(node["_target_"], {}), path, node, filled_in=filled_in)


def check_node(
    limits: Limits, path: str, node: DictConfig, *, filled_in: Container[str] = ()
) -> None:
    """Check the settings of one part of a configuration.

    Args:
        limits: the valid values.
        path: key of the part, for the message; empty for the whole configuration.
        node: the part.
        filled_in: keys that may be null because train.py replaces null.

    Raises:
        ConfigError: a setting is invalid.
    """
    written = OmegaConf.to_container(node, resolve=False)
    assert isinstance(written, dict)

    def key(name: str) -> str:
        """Return the key that sets a parameter: ``tile.size`` for ``tile_size: ${tile.size}``."""
        source = INTERPOLATION.fullmatch(str(written.get(name)))
        return source[1] if source else _join(path, name)

    settings = {
        name: value
        for name, value in plain_settings(node, limits).items()
        if value is not None or key(name) not in filled_in
    }
    check_settings(limits, settings, key)


def plain_settings(node: DictConfig, limits: Limits) -> dict[str, Any]:
    """Return the settings of a part that have limits, resolved, as plain containers.

    Args:
        node: the part.
        limits: the valid values.
    """
    values = {name: node[name] for name in limits if name in node}
    return {
        name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for name, value in values.items()
    }


def classes_in(node: DictConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yield the key and the node of each part of a configuration that names a class."""
    if "_target_" in node:
        yield path, node
    for name in node:
        if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, str(name)):
            continue
        if isinstance(node[name], DictConfig):
            yield from classes_in(node[name], _join(path, str(name)))


def _join(path: str, name: str) -> str:
    """Return the key of a setting in a part."""
    return f"{path}.{name}" if path else name
