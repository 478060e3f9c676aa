"""Stores and a checkpoint of e2724f9, made by tests/old_stores/make.py, are used by this ALPS."""

import lzma
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import alps
from alps.assign.category import ByCategory
from alps.assign.cluster import Cluster
from alps.errors import StoreMismatch
from alps.export import export_store
from alps.features.sam import SamFeatures
from alps.features.stored import StoredFeatures
from alps.images.boxes.dior import Dior
from alps.images.plain.folder import Folder
from alps.images.stored import StoredLabels
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label, settings_of
from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.masks.box import BoxMasks
from alps.masks.stored import StoredMasks
from alps.store.label_store import LabelStore
from alps.store.old_stores import find_change
from alps.store.plan import draft
from alps.store.verify import verify
from alps.structures.records import ImageRecord
from tests.fakes import BoxSegmenter, ColorSegmenter
from tests.programs import LIGHTNING_WARNINGS

OLD = Path(__file__).parents[1] / "old_stores"
TILES = {"tile_size": 64, "tile_overlap": 16}
#: Settings of `AutoMasks` that make.py did not give, and one that it gave.
DEFAULTS = {**SAM_SETTINGS, "stability_score_thresh": 0.5}
#: What is redone of a store that is not half done.
LABELS = ("clusters", "labels", "ann", "categories.json", "manifest.json")

#: The words of make.py.
MADE_BY = (
    *("stage=finetune", "dataset=folder_pair", "dataset.root=pair", "model=timm"),
    *("model.encoder=test_efficientnet_ln", "head=fpn", "head.channels=32"),
    *("head.pyramid_channels=32", "model.aux=false", "trainer=cpu", "data.batch_size=2"),
    *("logger=none", "optim=sgd", "optim.optimizer.momentum=0"),
    *("optim.optimizer.nesterov=false", "optim.lr=1e-12"),
)


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the folder; the stores name their images by relative paths."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")


def parts(name, **changes):
    """What made the store of a name."""
    if name == "dior":
        images = Dior(root="dior")
        masks, features, assign = (
            BoxMasks(segmenter=BoxSegmenter(), best=False),
            None,
            ByCategory(images),
        )
    else:
        images, segmenter = Folder(name, name), ColorSegmenter()
        masks = AutoMasks(segmenter=segmenter, points_per_side=4, **DEFAULTS, **TILES)
        features, assign = (
            SamFeatures(segmenter=segmenter, **TILES),
            Cluster(k=3, pca=2, weight="none", tol=1e-5),
        )
    made = {"image_set": images, "masks": masks, "features": features, "assign": assign}
    return {**made, "name": f"{name}_pl", "shard_size": 1, **changes}


def run(name, *, root=None, overwrite=None, verified=False, **changes):
    store, _ = label(
        **parts(name, **changes),
        engine=LocalEngine(threads=1),
        root=root or f"{name}_pl",
        config="",
        overwrite=overwrite,
        verified=verified,
    )
    return store


def check(name, **changes):
    made = parts(name, **changes)
    assign = made["assign"]
    settings = settings_of(
        *(made[part] for part in ("image_set", "masks", "features", "assign")),
        name=made["name"],
        shard_size=1,
    )
    root = Path(f"{name}_pl")
    return verify(root, draft(**settings), paint=assign.paint, categories=assign.categories())


def halve(name):
    """As a kill leaves a store before all masks are there."""
    root = Path(f"{name}_pl")
    for entry in LABELS:
        path = root / entry
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for entry in ("masks/{}.parquet", "images/{}.parquet", "features/{}.npy"):
        for shard in ("00001", "00003"):
            (root / entry.format(shard)).unlink(missing_ok=True)


def contents(store):
    """Masks, features and labels of all shards, as values."""
    found = []
    for shard in range(len(store.plan)):
        for image_id, masks in store.shard(shard).masks().items():
            found.append((image_id, masks.counts))
        ids, distance = store.shard(shard).labels()
        found += [store.shard(shard).features().tolist(), ids.tolist(), distance.tolist()]
    return found


@pytest.mark.parametrize("name", ["images", "tiff", "dior"])
@pytest.mark.usefixtures("old")
def test_it_opens_verifies_exports_and_is_learnt_from(name, tmp_path):
    store = LabelStore(f"{name}_pl")
    assert store.complete
    findings = check(name)
    assert findings.faults == findings.unknown_files == ()
    before = store.root.joinpath("manifest.json").read_bytes()
    assert run(name, verified=True).root.joinpath("manifest.json").read_bytes() == before
    images = StoredLabels(root=f"{name}_pl")
    records = images.records()
    assert len(records) == len(store.plan)
    target = images.read_target(records[0])
    assert target.shape == images.read(records[0]).size
    assert set(np.unique(target)) - {images.ignore_index}
    export_store(store, "coco", tmp_path / "coco")


@pytest.mark.usefixtures("old")
def test_what_is_damaged_is_found_and_made_again():
    path = Path("images_pl/masks/00002.parquet")
    expected = contents(LabelStore("images_pl"))
    path.write_bytes(path.read_bytes()[:-9])
    assert [fault.file for fault in check("images").faults] == ["masks/00002.parquet"]
    assert contents(run("images", verified=True)) == expected


@pytest.mark.usefixtures("old")
def test_the_same_command_says_that_it_is_complete():
    before = Path("images_pl/manifest.json").read_bytes()
    store = run("images")
    assert store.complete
    assert Path("images_pl/manifest.json").read_bytes() == before


@pytest.mark.usefixtures("old")
def test_a_half_done_one_is_finished_as_it_would_have_been():
    expected = contents(LabelStore("images_pl"))
    fingerprints = LabelStore("images_pl").info.stages
    halve("images")
    store = run("images")
    assert contents(store) == expected
    assert store.info.stages == fingerprints
    assert check("images").faults == ()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("tiff", None, r"read TIFF files differently \(first: 0.tif\)"),
        ("dior", None, "read annotations differently"),
        ("images", "alpha", r"also labelled pixels without data \(first: 2.png has alpha\)"),
    ],
)
@pytest.mark.usefixtures("old")
def test_an_old_store_whose_masks_would_differ_is_refused_in_one_line(name, change, reason, half):
    if change:
        path = Path("images/2.png")
        size = path.stat().st_size
        Image.new("RGBA", (56, 40)).save(path)
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    if half:
        halve(name)
    message = rf"{name}_pl was made by an older ALPS, which {reason}; label again with "
    with pytest.raises(
        StoreMismatch,
        match=message + "overwrite=masks or into another folder with store=DIR; or keep",
    ):
        run(name)


RGBA = np.dstack([np.arange(48, dtype=np.uint8).reshape(4, 4, 3), np.eye(4, dtype=np.uint8)])
COLORS = RGBA[..., :3].copy()


def save_palette(path, **options):
    Image.fromarray(COLORS).convert("P").save(path, **options)


def save_volume(path, dtype):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), dtype), np.eye(4)), path)


@pytest.mark.parametrize(
    ("name", "save", "found"),
    [
        ("rgb.png", lambda p: Image.fromarray(COLORS).save(p), None),
        ("rgba.png", lambda p: Image.fromarray(RGBA).save(p), "rgba.png has alpha"),
        ("gray.png", lambda p: Image.fromarray(RGBA[..., 2:]).save(p), "gray.png has alpha"),
        ("palette.png", save_palette, None),
        ("one.png", lambda p: save_palette(p, transparency=1), "one.png has alpha"),
        ("rgb.webp", lambda p: Image.fromarray(COLORS).save(p), None),
        ("lossless.webp", lambda p: Image.fromarray(COLORS).save(p, lossless=True), None),
        ("rgba.webp", lambda p: Image.fromarray(RGBA).save(p), "rgba.webp has alpha"),
        ("x.webp", lambda p: Image.fromarray(RGBA).save(p, lossless=True), "x.webp has alpha"),
        ("rgb.jpg", lambda p: Image.fromarray(COLORS).save(p), None),
        ("rgb.bmp", lambda p: Image.fromarray(COLORS).save(p), None),
        ("large.png", lambda p: Image.new("RGB", (1025, 2)).save(p), "blocks of 1024 px"),
        ("tiff.png", lambda p: Image.fromarray(COLORS).save(p, "TIFF"), "read TIFF files"),
        ("empty.png", lambda p: p.touch(), None),
        ("gone.png", lambda p: None, None),
        ("a.nii", lambda p: save_volume(p, np.int16), None),
        ("a.nii.gz", lambda p: save_volume(p, np.uint8), None),
        ("b.nii", lambda p: save_volume(p, np.float64), "b.nii holds floats"),
        ("b.nii.gz", lambda p: save_volume(p, np.float32), "b.nii.gz holds floats"),
        ("cut.nii.gz", lambda p: p.write_bytes(b"\x1f\x8b\x08\xff"), None),
    ],
)
def test_images_that_come_out_otherwise_are_told_by_their_headers(name, save, found, tmp_path):
    save(tmp_path / name)
    reason = find_change(tmp_path, [ImageRecord("x", name)], superpixels=True)
    assert (reason is None) if found is None else (found in reason)


@pytest.mark.parametrize("name", ["images", "tiff", "dior"])
@pytest.mark.usefixtures("old")
def test_its_classes_are_made_anew_from_its_masks(name, caplog):
    before = LabelStore(f"{name}_pl").info.stages
    changes = {} if name == "dior" else {"assign": Cluster(k=2, pca=2, weight="none", tol=1e-5)}
    masks = Path(f"{name}_pl/masks/00001.parquet").read_bytes()
    store = run(name, overwrite="assign", **changes)
    assert store.complete
    assert store.info.stages["masks"] == before["masks"]
    assert store.info.stages.get("features") == before.get("features")
    assert Path(f"{name}_pl/masks/00001.parquet").read_bytes() == masks
    assert check(name, **changes).faults == ()
    unsure = "it cannot be checked whether annotations or classes have changed since"
    assert (unsure in caplog.text) == (name == "dior")


@pytest.mark.parametrize("name", ["tiff", "dior"])
@pytest.mark.usefixtures("old")
def test_its_masks_are_made_anew_where_that_is_asked(name):
    store = run(name, overwrite="masks")
    assert store.info.images["version"] == 2
    assert store.info.stages["masks"]["identity"]["version"] == (2 if name == "dior" else 3)
    assert run(name).complete


@pytest.mark.usefixtures("old")
def test_features_are_not_made_of_other_pixels():
    with pytest.raises(StoreMismatch, match="tiff_pl was made by an older ALPS"):
        run("tiff", overwrite="features")
    assert run("images", overwrite="features").complete


class NewFeatures(SamFeatures):
    """Features as a later version might compute them."""

    @property
    def identity(self):
        return {**SamFeatures.identity.fget(self), "version": 2}


@pytest.mark.usefixtures("old")
def test_features_of_a_later_version_are_refused():
    features = NewFeatures(segmenter=ColorSegmenter(), **TILES)
    with pytest.raises(
        StoreMismatch, match=r"features.version is absent in the store and 2 .*overwrite=features"
    ):
        run("images", features=features)
    assert run("images", features=features, overwrite="features").complete


@pytest.mark.usefixtures("old")
def test_changed_images_and_settings_are_refused():
    with pytest.raises(
        StoreMismatch, match=r"other settings: assign.k is 3 in the store and 2 in this"
    ):
        run("images", assign=Cluster(k=2, pca=2, weight="none", tol=1e-5))
    with pytest.raises(
        StoreMismatch, match=r"other settings: masks.points_per_side is 4 in the store"
    ):
        run(
            "images",
            masks=AutoMasks(segmenter=ColorSegmenter(), points_per_side=5, **DEFAULTS, **TILES),
        )
    Path("images/3.png").unlink()
    with pytest.raises(StoreMismatch, match="other images: 0 added, 1 removed"):
        run("images")


@pytest.mark.usefixtures("old")
def test_its_masks_and_features_are_taken_into_a_new_store():
    masks, features = StoredMasks(store="images_pl"), StoredFeatures(store="images_pl")
    store = run("images", root="new", masks=masks, features=features)
    assert store.info.images["version"] == 2
    assert contents(store) == contents(LabelStore("images_pl"))


@LIGHTNING_WARNINGS
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_is_tested_predicts_and_resumes(tmp_path, train):
    for name in ("pair", "images"):
        shutil.copytree(OLD / name, tmp_path / name)
    Path("run").mkdir()
    Path("run/last.ckpt").write_bytes(lzma.decompress((OLD / "last.ckpt.xz").read_bytes()))
    cpu = ("trainer=cpu", "logger=none")
    status, out, err = train("stage=test", "ckpt=run/last.ckpt", *cpu)
    assert status == 0, err
    assert "mIoU" in out
    words = ("stage=predict", "ckpt=run/last.ckpt", "input=images", "output=maps")
    status, _, err = train(*words, "trainer=cpu")
    assert status == 0, err
    index_map = np.asarray(Image.open("maps/0.png"))
    assert index_map.shape == (40, 40)
    assert np.array_equal(
        alps.load_net("run/last.ckpt", device="cpu").predict("images/0.png"), index_map
    )
    status, _, err = train(*MADE_BY, "trainer.max_steps=3", "resume=run/last.ckpt")
    assert status == 0, err
    # What this ALPS has written knows its images.
    for folder, suffix in (("img_dir", "jpg"), ("ann_dir", "png")):
        path = Path("pair", folder, "train")
        shutil.copy(path / f"0.{suffix}", path / f"7.{suffix}")
    status, _, err = train(*MADE_BY, "trainer.max_steps=4", "resume=run/last.ckpt")
    assert status == 1
    assert re.search(
        r"error: run/last.ckpt can only be resumed with the same images and labels", err
    )
