"""Code that label.py and train.py share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # makes Hydra raise exceptions

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.cli.choices import refuse_null_choices
from alps.cli.overrides import explained
from alps.cli.secret_settings import refuse_secret_overrides
from alps.errors import one_line_errors
from alps.structures.old_names import OLD_NAMES

#: Folder of the configuration groups; in a clone, a link to the top-level folder.
CONF = Path(__file__).resolve().parents[1] / "conf"
#: Exceptions raised for a configuration that cannot be composed or resolved.
CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


def start_program(main: Callable[[], Any], interrupted: str, hints: Mapping[str, str]) -> None:
    """Check the command line and run a program.

    User errors are printed as one line and give exit status 1.

    Args:
        main: main function, decorated with `hydra.main`.
        interrupted: message after Ctrl-C.
        hints: text to append to the error about an empty choice, by configuration group.
    """
    with one_line_errors(*CONFIG_ERRORS, interrupted=interrupted):
        refuse_secret_overrides(sys.argv[1:])  # first, because -m writes overrides to a file
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

    If the folder is missing, the images are listed, which raises the error before any slow import.
    """
    image_set = instantiate(node)
    if not Path(image_set.root).exists():
        image_set.records()
    return image_set


def rename_old_targets(node: DictConfig | ListConfig) -> None:
    """Replace class names of older versions of ALPS by the current names, in place."""
    keys: list[Any] = [*node] if isinstance(node, DictConfig) else [*range(len(node))]
    for key in keys:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if key == "_target_" and value in OLD_NAMES:
            node[key] = OLD_NAMES[value]
        elif isinstance(value, DictConfig | ListConfig):
            rename_old_targets(value)
