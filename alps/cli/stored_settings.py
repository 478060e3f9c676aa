"""Comparison of a configuration with an existing store, without slow imports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alps.cli.limits import LIMITS, classes_in, plain_settings


def refuse_other_settings(cfg: DictConfig, root: Path) -> None:
    """Raise `StoreMismatch` if a store was made with settings that differ from this run's.

    Weights, devices and images are compared later, because this needs slow imports and reads files.

    Args:
        cfg: the configuration of label.py.
        root: folder of the store, which need not exist.

    Raises:
        StoreError: store.json cannot be read.
        StoreMismatch: a setting differs, and ``overwrite`` does not cover its stage.
    """
    if not (root / "store.json").exists():
        return
    from alps.store.label_store import LabelStore
    from alps.store.layout import STAGES
    from alps.store.plan import compare_settings, mismatch

    store = LabelStore(root)
    for i, stage in enumerate(STAGES):
        if stage == cfg.overwrite:
            return
        identity = store.info.stages.get(stage, {}).get("identity", {})
        settings = _settings_of(cfg, stage)
        shared_keys = settings.keys() & identity.keys()
        old, new = ({k: part[k] for k in shared_keys} for part in (identity, settings))
        if old != new and any(store.has_begun(later) for later in STAGES[i:]):
            raise mismatch(store.root, stage, compare_settings(stage, old, new))


def _settings_of(cfg: DictConfig, stage: str) -> dict[str, Any]:
    """Return the settings of the classes of a stage, named as in its identity."""
    if cfg[stage] is None:
        return {}
    parts = {path.removeprefix("parts."): node for path, node in classes_in(cfg[stage])}
    if "segmenter" in cfg[stage] and OmegaConf.is_interpolation(cfg[stage], "segmenter"):
        parts["sam"] = cfg.sam
    settings = {
        f"{path}.{name}".lstrip("."): value
        for path, node in parts.items()
        for name, value in plain_settings(node, LIMITS.get(node["_target_"], {})).items()
    }
    plain = json.loads(json.dumps(settings))
    assert isinstance(plain, dict)
    return plain
