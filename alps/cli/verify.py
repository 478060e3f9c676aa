"""Check a store with the configuration in its folder: `alps verify STORE`."""

from __future__ import annotations

import argparse
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from alps.cli.label import INTERRUPTED, run
from alps.cli.program import CONF, CONFIG_ERRORS, rename_old_targets
from alps.errors import StoreError, one_line_errors, sigterm_raises


def start() -> None:
    """Verify the store on the command line and rebuild its damaged files."""
    parser = argparse.ArgumentParser(
        prog="alps verify",
        description="Check every file of a label store and rebuild the damaged ones.",
    )
    parser.add_argument("store", metavar="STORE", type=Path, help="folder of the store")
    parser.add_argument(
        "--images",
        action="store_true",
        help="also compare the images with the hashes recorded during labelling",
    )
    arguments = parser.parse_args()
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED), sigterm_raises():
        run(read_config(arguments.store, images=arguments.images), arguments.store)


def read_config(store: Path, *, images: bool) -> DictConfig:
    """Return the configuration in the folder of a store, with ``verify`` set.

    Args:
        store: folder of the store.
        images: whether to compare the images with their recorded hashes too.

    Raises:
        StoreError: the configuration of the store cannot be read.
    """
    path = store / "config.yaml"
    try:
        made_with = OmegaConf.load(path)
    except OSError as error:
        raise StoreError(
            f"cannot read {path}: {error.strerror}; verification needs the configuration of the "
            "store: pass the folder of a store, or repeat its label.py command with "
            "verify=true"
        ) from error
    if "masks" not in made_with:
        raise StoreError(
            f"{path} is not a configuration of label.py: the store was made in Python; repeat the "
            "call of alps.label, which writes missing files"
        )
    cfg = OmegaConf.merge(
        {"engine": OmegaConf.load(CONF / "engine/local.yaml")},
        {"overwrite": None, "evaluate": False, "choose_k": None, "strict": False},
        {"verify": "images" if images else True},
        made_with,
    )
    assert isinstance(cfg, DictConfig)
    rename_old_targets(cfg)
    return cfg


if __name__ == "__main__":
    start()
