"""Every dataset of conf/: made as it is published, labelled, learnt from."""

import logging
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from alps.assign.baselines import Binary
from alps.cli.train_checks import UNLABELLED
from alps.images.files import read
from alps.images.plain.sample import FILES
from alps.images.stored import StoredLabels
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.models.heads.fpn import FPN
from alps.models.segmentation import SegmentationModel
from alps.prediction.sliding import SlidingWindow
from alps.pretrained.encoder import Encoder
from alps.protocols import LabelledSet
from alps.rasters.pixels import Pixels
from alps.structures.masks import Masks
from alps.training.data import SegmentationData
from alps.training.losses import CrossEntropy
from alps.training.optim import Optim
from alps.training.subject import Subject
from alps.training.task import SegmentationTask
from tests import box_formats, factories, ground_truth
from tests.geo_rasters import create_geo_raster, draw_bands
from tests.programs import LIGHTNING_WARNINGS, ROOT
from tests.training.tiny_runs import tiny_trainer
from tests.videos import create_video

pytestmark = LIGHTNING_WARNINGS


def create_sample(root):
    for seed, name in enumerate(("LICENSE", *FILES)):
        if name.endswith(".png"):
            factories.create_image(root / name, seed=seed)
        else:
            (root / name).touch()


def create_table(root):
    factories.create_images(root / "images", 2)
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\nimage_0,5,5,30,30\n")


def create_volumes(root):
    ground_truth.write_volume(root / "a.nii.gz", ground_truth.draw_volume()[0])


def create_rasters(root):
    for name in ("a", "b"):
        bands = draw_bands(3, (64, 64), np.uint8, seed=ord(name))
        create_geo_raster(root / f"{name}.tif", bands, photometric="RGB")


def create_two_towns(root):
    factories.create_vectors(root)
    shutil.copy(root / "town.tif", root / "same_town.tif")


def subset(name):
    return partial(ground_truth.create_samrs_subset, subset=name)


def video(kind):
    return partial(create_video, kind=kind, n=4)


SMALL = ["dataset.tile_size=64"]
#: How each is made in an empty folder, and what its configuration is told.
DATASETS = {
    "atlas2023": (ground_truth.create_atlas2023, []),
    "bovtext": (video("bovtext"), []),
    "coco": (box_formats.create_coco, []),
    "dior": (box_formats.create_dior, []),
    "dota": (box_formats.create_dota, []),
    "dstext": (video("dstext"), []),
    "fair1m": (box_formats.create_fair1m, []),
    "fast": (subset("fast"), []),
    "folder": (partial(factories.create_images, n=2), ["dataset.name=folder"]),
    "folder_pair": (factories.create_folder_pair, []),
    "hrsc2016": (box_formats.create_hrsc2016, []),
    "icdar2015_video": (video("icdar"), []),
    "isaid": (factories.create_isaid, [*SMALL, "dataset.stride=40"]),
    "loveda": (ground_truth.create_loveda, []),
    "nifti": (create_volumes, []),
    "potsdam": (factories.create_potsdam, SMALL),
    "rasters": (create_rasters, ["dataset.window=64", "dataset.overlap=8"]),
    "sample": (create_sample, []),
    "samrs": (factories.create_samrs, []),
    "samrs_boxes": (subset("sota"), []),
    "sior": (subset("sior"), []),
    "sota": (subset("sota"), []),
    "table": (create_table, []),
    "vaihingen": (ground_truth.create_vaihingen, SMALL),
    "vectors": (
        create_two_towns,
        ["dataset.vectors=${dataset.root}/labels.geojson", "dataset.field=kind"],
    ),
    "video": (video("csv"), []),
    "voc": (box_formats.create_voc, []),
}
STORES = {"store", "samrs_pl", "isaid_pl"}


class TwoImages:
    """Of an image set: one to learn from, and another."""

    def __init__(self, images):
        self.images, self.name, self.root = images, images.name, images.root

    def records(self):
        records = self.images.records()
        first = next(record for record in records if record.split == "train")
        return [first, next(record for record in records if record != first)]

    def read(self, record):
        return self.images.read(record)


class Halves:
    """The upper and the lower half of any image."""

    identity = {"source": "halves"}  # noqa: RUF012 - read only

    def prefetch(self, samples):
        pass

    def __call__(self, sample):
        upper = np.arange(sample.size[0])[:, None] < sample.size[0] // 2
        masks = np.broadcast_to(np.stack([upper, ~upper]), (2, *sample.size))
        return Masks.from_array(masks)


def learn(images, folder):
    """A step and a validation of a tiny net."""
    encoder = Encoder("test_resnet")
    head = FPN(encoder.channels, channels=32, pyramid_channels=32)
    model = SegmentationModel(encoder, head, num_classes=len(images.categories()))
    task = SegmentationTask(
        model=model,
        subjects=[Subject.of(images, loss=CrossEntropy(ignore_index=images.ignore_index))],
        window=SlidingWindow(crop=64),
        optim=Optim(optimizer=torch.optim.AdamW, lr=1e-3, weight_decay=0.05, warmup=0.0),
    )
    data = SegmentationData(images, batch_size=2, crop=64, num_workers=0)
    trainer = tiny_trainer(folder, steps=1, val_check_interval=1, limit_val_batches=1)
    trainer.fit(task, data)
    assert trainer.global_step == 1
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


def test_all_are_here_and_in_the_tables():
    files = {path.stem for path in (ROOT / "conf/dataset").glob("*.yaml")}
    assert DATASETS.keys() == files - STORES
    for page in ("docs/datasets.md", "data/README.md"):
        first = re.findall(r"^\| (`[^|]*`) \|", (ROOT / page).read_text(), re.MULTILINE)
        assert files <= {name for cell in first for name in re.findall(r"`(\w+)`", cell)}, page


def check_no_data_arrives(images, monkeypatch):
    """What a file says of its valid pixels reaches the sample, in labelling and in learning."""
    decode = read.decode

    def hide(path):
        pixels = decode(path)
        valid = np.ones(pixels.size, bool)
        valid[:3, :5] = False
        return Pixels(pixels.image | 1, valid)

    with monkeypatch.context() as patch:
        patch.setattr(read, "decode", hide)
        record = images.records()[0]
        sample = images.read(record)
    is_image = Path(record.file_name).suffix.lower() in read.SUFFIXES  # not a video, nor a volume
    if is_image and record.window is None:  # windows: tests/rasters/test_view.py
        assert np.count_nonzero(~sample.valid) == 15
        assert not sample.image[:3, :5].any()
        assert sample.image[3:, 5:].all()


@pytest.mark.parametrize("choice", DATASETS)
def test_it_is_labelled_and_learnt_from(choice, tmp_path, caplog, monkeypatch):
    create, words = DATASETS[choice]
    root = tmp_path / "data"
    root.mkdir()
    create(root)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("label", [f"+dataset={choice}", f"dataset.root={root}", *words])
    images = instantiate(cfg.dataset)
    assert isinstance(images, LabelledSet) == (choice not in UNLABELLED)

    with caplog.at_level(logging.WARNING):
        store, _ = label(
            image_set=TwoImages(images),
            masks=Halves(),
            features=None,
            assign=Binary(),
            engine=LocalEngine(threads=1),
            root=tmp_path / "x_pl",
            name="x_pl",
            config="",
        )
    assert "skipped" not in caplog.text
    stored = StoredLabels(root=str(store.root))
    assert len(stored.records()) == 2
    for each in (images, stored):
        check_no_data_arrives(each, monkeypatch)
    learn(images if isinstance(images, LabelledSet) else stored, tmp_path)
