"""The functions of the package itself."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import alps
from alps.assign.baselines import Binary
from alps.errors import ConfigError, StoreError
from alps.images import Folder, FolderPair
from alps.labelling.recipes import RECIPES, Recipe, build_recipe
from alps.masks.auto import AutoMasks
from alps.structures import Sample
from tests.box_formats import create_coco
from tests.factories import create_folder_pair, draw_labels
from tests.fakes import ColorSegmenter
from tests.programs import ROOT


def test_the_import_is_light():
    code = (
        "import sys, alps; print(sorted({'torch', 'numpy', 'hydra'} & {*sys.modules}), dir(alps))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert all(name in done.stdout for name in alps.__all__)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_those_of_label_py(name, tmp_path):
    """Setting by setting, as their identities have them."""
    create_coco(tmp_path)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", ["+dataset=coco", f"dataset.root={tmp_path}", f"recipe={name}"])
    ours = build_recipe(name, instantiate(cfg.dataset))
    for part in ("masks", "features", "assign"):
        theirs = instantiate(cfg[part])
        own = getattr(ours, part)
        assert (own is None) == (theirs is None)
        if own is not None:
            assert dict(own.identity) == dict(theirs.identity)
            assert type(own) is type(theirs)
    if hasattr(ours.masks, "threads"):
        assert ours.masks.threads == instantiate(cfg.masks).threads


def test_an_unknown_recipe_names_the_others():
    with pytest.raises(ConfigError, match="no recipe 'alp'; choose one of alps, alps_paper, samrs"):
        build_recipe("alp", Folder(".", "x"))


def test_label_open_evaluate_export(tmp_path, monkeypatch):
    create_folder_pair(tmp_path / "pair", n=2, size=(32, 48))
    monkeypatch.chdir(tmp_path)
    images = FolderPair(root="pair", name="town")
    masks = AutoMasks(
        segmenter=ColorSegmenter(), points_per_side=3, stability_score_thresh=0.5, ground=0
    )
    made = alps.label(images, recipe=Recipe(masks, Binary()))
    assert made.complete
    assert str(made.root) == "data/town_pl"
    store = alps.open_store("data/town_pl")
    assert store.info == made.info
    evaluation = alps.evaluate(store, images)
    assert re.fullmatch(
        r"Evaluation\('town pair.*', images=\d+, accuracy={'labels': .*\)", repr(evaluation)
    )
    assert evaluation.ratings["labels"].everywhere == (
        alps.evaluate("data/town_pl", "pair").ratings["labels"].everywhere
    )
    tally = alps.export_store("data/town_pl", "coco", tmp_path / "coco")
    assert tally.images == 4
    again = alps.label(images, recipe=Recipe(masks, Binary()))
    assert again.info == made.info
    with pytest.raises(StoreError, match="no label store at nowhere"):
        alps.open_store("nowhere")


def test_a_folder_is_enough(tmp_path):
    create_folder_pair(tmp_path / "pair", n=1, size=(32, 48))
    masks = AutoMasks(
        segmenter=ColorSegmenter(), points_per_side=3, stability_score_thresh=0.5, ground=0
    )
    folder = tmp_path / "pair/img_dir/train"
    store = alps.label(folder, recipe=Recipe(masks, Binary()), store=tmp_path / "s")
    assert store.info.name == "train_pl"
    assert store.info.images["target"] == "alps.images.Folder"


def test_segment_cuts_an_array_as_the_recipe_does(monkeypatch):
    monkeypatch.setattr("alps.masks.segment.load_segmenter", lambda *_: ColorSegmenter())
    image = draw_labels(seed=3)[0]
    masks = alps.segment(image, points_per_side=4)
    source = AutoMasks(segmenter=ColorSegmenter(), points_per_side=4)
    expected = source(Sample("image", image))
    assert masks.counts == expected.counts
    assert np.isnan(masks.predicted_iou).any()
    assert not np.isnan(alps.segment(image, points_per_side=4, ground=0).predicted_iou).any()
