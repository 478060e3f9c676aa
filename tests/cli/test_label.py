"""label.py as a user meets it."""

import logging
import os
import pickle
import re

import jaxtyping
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from alps.cli.label import build_assigner
from alps.cli.limits import check_classes
from alps.cli.program import build_image_set
from alps.errors import ConfigError, StoreError
from alps.features.joined import JoinedFeatures
from alps.features.shape import ShapeFeatures
from alps.images.stored import StoredLabels
from alps.protocols import ImageSet
from alps.store.layout import ImageStatus
from alps.store.plan import prepare
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord
from tests.box_formats import create_voc
from tests.factories import create_images
from tests.programs import ROOT, start


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            r"label.py needs a dataset: \+dataset=atlas2023\|.*\|folder_pair\|.*\|samrs",
        ),
        (["+dataset=nosuch"], r"Could not find 'dataset/nosuch' .* folder .*sample samrs"),
        (["+dataset=[folder,samrs]"], "label.py takes one dataset per run"),
        (["+dataset=samrs_pl"], r"dataset=samrs_pl is a label store, .*: \+dataset=atlas2023\|"),
        (["+dataset=isaid_pl"], "dataset=isaid_pl is a label store, which label.py writes"),
        (["+dataset=store"], "dataset=store is a label store, .* train.py reads; choose images"),
        (["+dataset=folder_pair"], r"dataset.root=... must be given"),
        (["+dataset=folder"], r"dataset.name=... and dataset.root=... must be given"),
        (
            ["+dataset=samrs", "recipe=alps2"],
            r"assign.predictions=... and masks.store=... must be g",
        ),
        (["+dataset=samrs", "masks=nosuch"], r"Could not find 'masks/nosuch' .* auto"),
        (
            ["+dataset=samrs", "masks.point_per_side=8"],
            r"masks.point_per_side: no such setting; did you mean masks.points_per_side\?",
        ),
        (
            [
                *("+dataset=folder", "dataset.root=.", "dataset.name=x"),
                "recipe=random",
                "choose_k=[8]",
            ],
            "but alps.assign.Random does not cluster; use a",
        ),
        (["+dataset=samrs", "verify=1.5"], "verify=1.5: expected true, false or images"),
        (
            ["+dataset=samrs", "verify=true", "overwrite=masks"],
            "verify=true keeps intact files, but overwrite=... does not: choose one",
        ),
        (
            ["+dataset=sample", "features=null"],
            r"features=null: not a valid choice; expected features=dinov2\|.*\|timm, or "
            r"omit the argument; recipe=binary\|random\|samrs\|samtext labels without features",
        ),
        (["-m", "+dataset=sample,null"], r"\+dataset=sample,null: .*expected dataset=atlas2023\|"),
        (
            ["+dataset=samrs", "overwrite=all"],
            "overwrite=all: expected null, masks, features, assign or failed",
        ),
    ],
)
def test_wrong_command_lines_get_one_line(arguments, message, tmp_path, label):
    done = label(*arguments)
    assert done.returncode == 1
    assert re.fullmatch(f"error: .*{message}.*\n", done.stderr)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["+dataset=samrs", "dataset.root={tmp}/samrs"],
            "no images of SAMRS under .*/samrs.*OneDrive",
        ),
        (["+dataset=folder", "dataset.root={tmp}/no", "dataset.name=x"], "no is not a folder"),
        (["+dataset=folder", "dataset.root={tmp}", "dataset.name=x"], "no images under .* 1 other"),
    ],
)
def test_data_that_is_not_there_gets_one_line(arguments, message, tmp_path, label):
    (tmp_path / "notes.txt").write_text("no image")
    arguments = [a.format(tmp=tmp_path) for a in arguments]
    done = label(*arguments)
    assert done.returncode == 1
    # Where the weights are not in the cache yet, a line says that they are fetched.
    assert re.fullmatch(f"(fetching .*\n)*error: .*{message}.*\n", done.stderr)


def test_a_folder_of_configurations_adds_to_the_groups(tmp_path, label):
    (tmp_path / "own/dataset").mkdir(parents=True)
    text = "_target_: alps.images.Folder\nname: mine\nroot: no_such_folder\n"
    (tmp_path / "own/dataset/mine.yaml").write_text(text)
    own = ("--config-dir", tmp_path / "own")
    assert "no_such_folder" in label(*own, "+dataset=mine").stderr
    assert " mine nifti " in label(*own, "+dataset=nosuch").stderr


def test_help_shows_groups_and_commands(tmp_path):
    done = start("label.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for words in ("python label.py +dataset=samrs", "mobile vit_b vit_l vit_h", "assign   "):
        assert words in done.stdout


def test_an_output_that_cannot_be_written(tmp_path):
    """As an unprivileged user, where the tests run as root: root ignores mode bits."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match=r"cannot write .*Permission denied.*store=DIR"):
            prepare(
                locked / "store",
                name="x",
                images={},
                records=[ImageRecord("a", "a.png")],
                identities={"masks": {}},
                num_classes=2,
                ignore_index=255,
                versions={},
            )
    finally:
        os.seteuid(user)


#: The groups of label.py; conf/ also holds those of train.py.
GROUPS = ("dataset", "sam", "masks", "features", "assign", "engine", "recipe", "paths")
STORES = ("store", "samrs_pl", "isaid_pl")


def finished_store(folder):
    """A store of one image without masks."""
    store = prepare(
        folder / "store",
        name="x",
        images={},
        records=[ImageRecord("a", "a.png")],
        identities={"masks": {}, "features": {}},
        num_classes=2,
        ignore_index=255,
        versions={},
    )
    store.shard(0).write_features(np.zeros((0, 4), np.float32))
    store.shard(0).write_masks(
        [ImageStatus("a", "empty", None, 8, 8, 0, 0)], {"a": Masks.empty((8, 8))}
    )
    return store.root


def yaml_choices():
    return [(g, p.stem) for g in GROUPS for p in sorted((ROOT / "conf" / g).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "choice"), yaml_choices())
def test_every_yaml_composes_and_instantiates(group, choice, tmp_path):
    boxed = choice in ("category", "samrs", "samtext")
    dataset = [] if group == "dataset" else [f"+dataset={'dota' if boxed else 'sample'}"]
    rooted = ("coco", "folder", "folder_pair", "nifti", "rasters", "store", "table", "vectors")
    root = [f"dataset.root={tmp_path}"] if choice in (*rooted, "video") else []
    if choice == "vectors":
        root.append("dataset.vectors=buildings.gpkg")
    own = [*root, "dataset.name=x"] if choice == "folder" else root
    if choice in ("stored", "alps2"):
        own = [f"masks.store={finished_store(tmp_path)}"]
        own += ["masks=stored"] * (choice == "stored")
    if choice in ("predicted", "alps2"):
        (tmp_path / "categories.json").write_text("[]")
        own = [*own, f"assign.predictions={tmp_path}"]
    if choice == "satdino":
        own = ["features.checkpoint=FILE"]
    if group not in ("recipe", "features"):
        own = [*own, "features=shape"]  # those of the default recipe build a net
    override = f"+{group}={choice}" if group == "dataset" else f"{group}={choice}"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", [override, *dataset, *own])
    built = {
        key: instantiate(cfg[key])
        for key in ("dataset", "sam", "masks", "features", "assign", "engine")
    }
    sent = pickle.loads(pickle.dumps(built))  # as workers in other processes get it
    assert {key: type(part) for key, part in sent.items()} == {
        key: type(part) for key, part in built.items()
    }
    if (group, choice) in (
        ("features", "sam"),
        ("recipe", "alps_paper"),
    ):  # one encoder run
        assert built["masks"].segmenter is built["features"].segmenter
    assert isinstance(built["dataset"], StoredLabels if choice in STORES else ImageSet)
    if choice not in STORES:  # these have their name on disk, and label.py refuses them
        suffixes = {"alps2": "pl2", "samrs": "seg", "samtext": "seg"} if group == "recipe" else {}
        suffix = suffixes.get(choice, "pl")
        assert cfg.store == f"data/{cfg.dataset.name}_{suffix}"


#: Where these stand in the configuration, and what else to choose for them.
NUMBERS = {
    ("masks", "auto"): {
        *("points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh"),
        *("stability_score_offset", "box_nms_thresh", "min_area", "max_area", "crop_n_layers"),
        *("crop_n_points_downscale_factor", "crop_overlap_ratio", "crop_nms_thresh", "ground"),
        *("tile_size", "tile_overlap"),
    },
    ("masks", "cover"): {"passes"},
    ("masks", "box"): {"tile_size", "tile_overlap", "min_part"},
    ("features", "sam"): {"tile_size", "tile_overlap"},
    ("features", "timm"): {"scale", "box_size", "tile_size", "tile_overlap"},
    ("features", "shape"): {"color", "shape", "bands", "tile_size", "tile_overlap"},
    ("features", "sscd"): {"box_size"},
    ("assign", "cluster"): {
        *("k", "niter", "tol", "batch_size", "seed", "pca", "restarts", "merge", "reject", "fill"),
    },
    ("assign", "predicted"): {"min_confidence"},
    ("assign", "random"): {"k", "seed", "fill"},
}


@pytest.mark.parametrize(("group", "choice"), NUMBERS)
def test_an_invalid_number_is_rejected_by_its_key(group, choice):
    """Under the key that the command line has for it, however the class names it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", [f"{group}={choice}", "+dataset=sample"])
    part = OmegaConf.to_container(cfg, resolve=True)[group]
    numbers = {key for key, value in part.items() if type(value) in (int, float)} - {"threads"}
    assert numbers <= NUMBERS[group, choice] | NUMBERS["masks", "auto"]  # cover's are those of auto
    for key in NUMBERS[group, choice]:
        for value in ("few", -1, 0.3 if key in numbers and isinstance(part[key], int) else "x"):
            changed = OmegaConf.merge(cfg, {group: {key: value}})
            with pytest.raises(ConfigError, match=rf"^{group}\.{key}={value}: expected "):
                check_classes(changed)


@pytest.mark.parametrize("key", ["tile.size", "tile.overlap", "seed", "engine.threads"])
def test_an_interpolated_number_is_rejected_by_its_source(key):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", [f"{key}=-1", "+dataset=sample"])
    with pytest.raises(ConfigError, match=rf"^{key}=-1: expected "):
        check_classes(cfg)


def test_classes_of_boxes_are_read_once(tmp_path, caplog):
    create_voc(tmp_path, 2)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", ["+dataset=voc", f"dataset.root={tmp_path}", "recipe=samrs"])
    image_set = build_image_set(cfg.dataset)
    with caplog.at_level(logging.INFO, logger="alps"):
        assert len(image_set.records()) == 2
        assert build_assigner(cfg, image_set, None).categories() == image_set.categories()
    [_] = [message for message in caplog.messages if "has 2 classes" in message]


def test_clusters_get_the_groups_of_the_features(tmp_path):
    overrides = ["assign.pca=4", "assign.channel_groups=auto", f"dataset.root={tmp_path}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", ["+dataset=folder", "dataset.name=x", *overrides])
    parts = {"color": ShapeFeatures(), "both": ShapeFeatures(shape=1.0)}
    assert build_assigner(cfg, None, JoinedFeatures(parts=parts)).channel_groups == [6, 9]


def test_a_number_that_is_none_is_one_line(tmp_path, label, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are the user's
    create_images(tmp_path / "x", 1)
    words = ("+dataset=folder", "dataset.root=x", "dataset.name=x", "engine.threads=1")
    for word in ("masks.points_per_side=0", "assign.k=many", "tile.overlap=2000", "shard_size=few"):
        done = label(*words, word)
        assert done.returncode == 1, word
        assert re.fullmatch(f"error: {word}: expected .*\n", done.stderr), done.stderr
    crops = ("masks.crop_n_layers=1", "masks.crop_n_points_downscale_factor=2")
    done = label(*words, "masks.points_per_side=1", *crops)
    assert re.fullmatch(
        "error: masks.crop_n_layers=1: expected fewer .* raise masks.points_per_side=1 or .*\n",
        done.stderr,
    )


def test_a_store_of_a_sweep_lies_in_its_trial(tmp_path, label):
    (tmp_path / "x").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "x/a.png")
    done = label(
        "-m",
        "+dataset=folder",
        "dataset.root=x",
        "dataset.name=x",
        "masks.points_per_side=1,2",
        "assign.k=1",
        "hydra.sweep.dir=trials",
        "engine.threads=1",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "trials/0/x_pl/store.json").exists()
    assert (tmp_path / "trials/1/x_pl/store.json").exists()
