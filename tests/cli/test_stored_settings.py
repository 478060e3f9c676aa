"""Settings compared with those of an existing store, before its classes are built."""

import pytest
from hydra import compose, initialize_config_dir

from alps.cli.stored_settings import refuse_other_settings
from alps.errors import StoreMismatch
from alps.store.label_store import ImageStatus
from alps.store.plan import prepare
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord
from tests.programs import ROOT

IDENTITIES = {
    "masks": {"points_per_side": 32, "sam.architecture": "mobile", "sam.device": "cuda"},
    "features": {"timm.pool": "mask", "timm.device": "cuda", "shape.color": 2.0},
    "assign": {"k": 46, "merge": None},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A store with masks of its only image."""
    store = prepare(
        tmp_path_factory.mktemp("stored") / "store",
        name="x",
        images={},
        records=[ImageRecord("a", "a.png")],
        identities=IDENTITIES,
        num_classes=46,
        ignore_index=255,
        versions={},
    )
    store.shard(0).write_masks(
        [ImageStatus("a", "empty", None, 8, 8, 0, 0)], {"a": Masks.empty((8, 8))}
    )
    return store.root


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("label", ["+dataset=sample", *overrides])


def test_equal_settings_are_accepted_wherever_devices_and_weights_differ(root, tmp_path):
    refuse_other_settings(composed(), root)
    refuse_other_settings(composed("masks.points_per_side=8"), tmp_path / "absent")


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("masks.points_per_side=16", "masks.points_per_side is 32 in the store and 16 in this run"),
        ("sam=vit_b", "masks.sam.architecture is mobile in the store and vit_b in this run"),
    ],
)
def test_a_setting_that_differs_is_named(root, override, difference):
    with pytest.raises(StoreMismatch, match=rf"{difference}; .*\(overwrite=masks\)"):
        refuse_other_settings(composed(override), root)
    refuse_other_settings(composed(override, "overwrite=masks"), root)


@pytest.mark.parametrize("override", ["assign.k=8", "features.parts.timm.pool=box"])
def test_settings_of_a_stage_that_has_not_begun_may_differ(root, override):
    refuse_other_settings(composed(override), root)


def test_settings_of_joined_features_are_compared(root):
    (root / "features").mkdir(exist_ok=True)
    (root / "features/00000.npy").write_bytes(b"")
    with pytest.raises(
        StoreMismatch, match=r"features.timm.pool is mask in the store and box in this"
    ):
        refuse_other_settings(composed("features.parts.timm.pool=box"), root)
