"""Rejection of secrets in a configuration, which is saved with the results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alps.errors import ConfigError

#: Names of settings whose values are secret.
NAMES = re.compile(r"(?i)(^|[._])(api_?key|access_?key|secret|password|token)$")
#: Environment variables whose values are secret.
VARIABLES = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
REMEDY = (
    "it would be saved with the results in plain text; remove it, and use `wandb login` or the "
    "environment variable WANDB_API_KEY instead"
)


def refuse_secrets(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a configuration contains a secret.

    A value is a secret if its setting has one of `NAMES`, or if it contains one of the environment
    variables `VARIABLES`, as a value or as an interpolation. The message contains the name, never
    the value.
    """
    _refuse(_leaves(config))


def refuse_secret_overrides(overrides: Sequence[str]) -> None:
    """Raise `ConfigError` if the command line, which Hydra saves to a file, contains a secret."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    _refuse((name, value) for name, _, value in pairs)


def _refuse(settings: Iterable[tuple[str, object]]) -> None:
    secrets = [os.environ[name] for name in VARIABLES if len(os.environ.get(name, "")) >= 8]
    for name, value in settings:
        text = "" if value is None else str(value)
        is_secret_variable = any(
            re.search(rf"oc\.env:\W*{variable}\b", text) for variable in VARIABLES
        )
        if (
            is_secret_variable
            or (text and NAMES.search(name))
            or any(secret in text for secret in secrets)
        ):
            raise ConfigError(f"the value of {name} is a secret: {REMEDY}")
        if any(secret in name for secret in secrets):
            raise ConfigError(f"the name of a setting is a secret: {REMEDY}")


def _leaves(node: object, name: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _leaves(value, name)
    else:
        yield name, node
