"""What a run learns from is digested into its checkpoints: a resumed one needs the same."""

from dataclasses import replace

import pytest

from alps.errors import CheckpointError
from alps.images.pixels.folder_pair import FolderPair
from alps.images.stored import StoredLabels
from alps.training.checkpoint import Checkpoint, ClassSpec
from alps.training.data import SegmentationData
from tests.export.stores import pseudo_store
from tests.factories import create_folder_pair


def fingerprint(images, **options):
    return SegmentationData(images, batch_size=1, **options).fingerprint


def test_the_list_of_images_decides(tmp_path):
    create_folder_pair(tmp_path, n=2)
    before = fingerprint(FolderPair(root=str(tmp_path)))
    image = tmp_path / "img_dir/train/1.jpg"
    image.write_bytes(image.read_bytes() + b"\0")  # a broken one may be mended
    assert fingerprint(FolderPair(root=str(tmp_path))) == before
    assert fingerprint(FolderPair(root=str(tmp_path)), seed=3, fraction=0.5) == before
    image.unlink()
    assert fingerprint(FolderPair(root=str(tmp_path))) != before


def test_the_labels_of_a_store_decide(tmp_path):
    store = pseudo_store(tmp_path / "store")
    for record in store.plan[0] + store.plan[1] + store.plan[2]:
        (tmp_path / record.file_name).touch()
    images = StoredLabels(root=str(store.root), images=str(tmp_path))
    before = fingerprint(images)
    stages = {**store.info.stages, "assign": {**store.info.stages["assign"], "fingerprint": "x"}}
    images._store.info = replace(images._store.info, stages=stages)
    assert fingerprint(images) != before


def checkpoint(path, fingerprints):
    return Checkpoint(
        path=path,
        version="0",
        config="",
        specs={name: ClassSpec((), 255, "", value) for name, value in fingerprints.items()},
        window_crop=32,
        step=1,
        validation_due=False,
        weights={},
    )


def test_a_resumed_run_needs_the_same(tmp_path):
    saved = checkpoint(tmp_path / "last.ckpt", {"a": "1", "b": "", "c": "3"})
    saved.check_data({"a": "1", "b": "2", "c": "3"})  # "b" was written by an older version
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt can only be resumed .* of c have changed"
    ):
        saved.check_data({"a": "1", "b": "2", "c": "4"})
