"""Keys that must not be written down: a configuration is kept beside all that is made with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alps.errors import ConfigError

#: Words in the names of settings whose values are secret.
NAMES = re.compile(r"(?i)(^|[._])(api_?key|access_?key|secret|password|token)$")
#: Variables of the environment whose values are.
VARIABLES = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
REMEDY = (
    "it would be written beside the results, for everybody to read; take it out, and give it by "
    "`wandb login` or in the environment (WANDB_API_KEY)"
)


def refuse_secrets(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where a value is secret, by its name or because the environment has it.

    The message names the setting and never the value.
    """
    _refuse(_leaves(config))


def refuse_secret_words(words: Sequence[str]) -> None:
    """The same for a command line, which Hydra writes down before a program sees it."""
    pairs = (word.lstrip("+~").partition("=") for word in words)
    _refuse((name, value) for name, _, value in pairs)


def _refuse(settings: Iterable[tuple[str, object]]) -> None:
    known = [os.environ[name] for name in VARIABLES if len(os.environ.get(name, "")) >= 8]
    for name, value in settings:
        text = "" if value is None else str(value)
        asked = any(re.search(rf"oc\.env:\W*{variable}\b", text) for variable in VARIABLES)
        if asked or (text and NAMES.search(name)) or any(secret in text for secret in known):
            raise ConfigError(f"the value of {name} is a secret: {REMEDY}")
        if any(secret in name for secret in known):
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
