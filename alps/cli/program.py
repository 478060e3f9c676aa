"""What the programs share: where conf/ lies, how they start, which errors are one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and one_line_errors explains

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.cli.choices import refuse_null_choices
from alps.cli.overrides import explained
from alps.cli.secret_settings import refuse_secret_words
from alps.errors import one_line_errors
from alps.structures.old_names import OLD_NAMES

#: The configuration groups; in a clone a link to the folder at the top.
CONF = Path(__file__).resolve().parents[1] / "conf"
#: Raised for a configuration that cannot be composed or resolved.
CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


def start_program(main: Callable[[], Any], interrupted: str, hints: Mapping[str, str]) -> None:
    """Check the command line and run a program; a user's error is one line and exit status 1.

    Args:
        main: the program, as `hydra.main` decorates it.
        interrupted: what Ctrl-C leaves behind, for the message.
        hints: what else to say where a group's choice is empty, by group.
    """
    with one_line_errors(*CONFIG_ERRORS, interrupted=interrupted):
        refuse_secret_words(sys.argv[1:])  # -m writes them down before main is called
        refuse_null_choices(sys.argv[1:], CONF, hints)
        with explained(sys.argv[1:], CONF, HydraException):
            main()


def to_dict(cfg: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """Return a configuration as plain containers; a missing value is ``???``.

    Args:
        cfg: the configuration.
        resolve: whether interpolations are replaced by their values.
    """
    plain = OmegaConf.to_container(cfg, resolve=resolve, throw_on_missing=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def build_image_set(node: Any) -> Any:
    """Return the image set that a configuration describes.

    Where its folder is missing, listing the images says so before anything slow is imported.
    """
    image_set = instantiate(node)
    if not Path(image_set.root).exists():
        image_set.records()
    return image_set


def rename_old_targets(node: DictConfig | ListConfig) -> None:
    """Replace the names that public classes had in an older ALPS, in place."""
    keys: list[Any] = [*node] if isinstance(node, DictConfig) else [*range(len(node))]
    for key in keys:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if key == "_target_" and value in OLD_NAMES:
            node[key] = OLD_NAMES[value]
        elif isinstance(value, DictConfig | ListConfig):
            rename_old_targets(value)
