"""The stages of one image, and label stores that do not depend on how the stages run."""

import errno
import threading

import numpy as np
import pytest

from alps.assign.cluster import Cluster
from alps.errors import ImageError, StoreError, Unavailable
from alps.features.joined import JoinedFeatures
from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.labelling.shard import label_shard
from alps.labelling.stages import IMAGES, IN_FLIGHT
from alps.labelling.timings import Timings
from alps.masks.auto import AutoMasks
from alps.store.plan import prepare
from alps.structures.masks import Masks
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors
from tests.labelling.engine.runs import files

TILES = {"tile_size": 64, "tile_overlap": 16}


def arrays(n=2 * IMAGES + 3):
    """Images of three sizes; the third cannot be read."""
    sizes = [(64, 64), (48, 80), (100, 40)]
    images = {f"{i:02d}": flat_colors(*sizes[i % 3], seed=i) for i in range(n)}
    return images | {"02": "truncated after 12 bytes"}


def auto(segmenter=None):
    return AutoMasks(
        segmenter=segmenter or ColorSegmenter(),
        points_per_side=4,
        stability_score_thresh=0.5,
        max_area=0.5,
        ground=8,
        **TILES,
    )


def run(root, *, images=None, masks=None, features=None, **engine):
    return label(
        image_set=images or ArrayImages(arrays()),
        masks=masks or auto(),
        features=features or ShapeFeatures(shape=1.0),
        assign=Cluster(k=4),
        engine=LocalEngine(**engine),
        root=root,
        name="tiny_pl",
        config="",
        shard_size=12,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    root = tmp_path_factory.mktemp("reference") / "store"
    run(root, threads=1)
    return files(root)


def test_a_store_has_the_same_bytes_for_any_number_of_threads(tmp_path, reference):
    """tests/labelling/engine has the same for processes."""
    run(tmp_path / "store", threads=3)
    assert files(tmp_path / "store") == reference


def test_a_failing_disk_stops_the_run_which_resumes(tmp_path, reference, monkeypatch):
    read = ArrayImages.read

    def fail(images, record):
        if record.image_id == "05":
            raise ImageError("05.png cannot be read") from OSError(errno.EIO, "I/O error")
        return read(images, record)

    monkeypatch.setattr(ArrayImages, "read", fail)
    with pytest.raises(
        Unavailable, match=r"05\.png cannot be read; the disk or the network failed"
    ):
        run(tmp_path / "store", threads=2)
    assert not (tmp_path / "store/masks/00000.parquet").exists()
    monkeypatch.undo()
    run(tmp_path / "store", threads=2)
    assert files(tmp_path / "store") == reference


class NoSpace(ShapeFeatures):
    """Features of which those of one image fail."""

    def __call__(self, sample, masks):
        if sample.image_id == "07":
            raise StoreError("cannot write features: no space left")
        return super().__call__(sample, masks)


def shard_of(root, *, images=None, masks=None, features=None, threads=2):
    """The values of the first shard of a new store."""
    images, masks = images or ArrayImages(arrays()), masks or auto()
    store = prepare(
        root,
        name="tiny_pl",
        images={},
        records=images.records(),
        identities={"masks": {}, "features": {}},
        num_classes=2,
        ignore_index=255,
        versions={},
        shard_size=64,
    )
    return store, label_shard(
        0, store=store, image_set=images, masks=masks, features=features, threads=threads
    )


def test_an_error_while_an_image_is_finished_comes_after_the_images_before_it(tmp_path):
    before = threading.active_count()
    _, values = shard_of(tmp_path / "store", features=NoSpace())
    seen = []
    with pytest.raises(StoreError, match="cannot write features: no space left"):
        seen.extend(values)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert threading.active_count() == before


def test_an_unreadable_image_is_skipped_in_its_place(tmp_path, caplog):
    store, values = shard_of(tmp_path / "store", features=ShapeFeatures())
    seen = []
    for value in values:
        if value == 3:
            assert "skipped 02.png: 02.png: truncated after 12 bytes" in caplog.text
        seen.append(value)
    n = len(arrays())
    assert seen[:-1] == [*range(1, n + 1)]
    statuses = store.shard(0).images()
    assert [s.image_id for s in statuses if s.status == "failed"] == ["02"]
    assert [s.image_id for s in statuses] == sorted(arrays())
    assert seen[-1].images == {"masks": n - 1, "features": n - 1}


class CountingImages(ArrayImages):
    """Images that count how often they are read."""

    def read(self, record):
        self.n_read = getattr(self, "n_read", 0) + 1
        return super().read(record)


def test_images_are_read_only_a_little_ahead_of_the_finished_ones(tmp_path):
    images = CountingImages({f"{i:03d}": flat_colors(40, 40, seed=i) for i in range(60)})
    _, values = shard_of(tmp_path / "store", images=images, features=ShapeFeatures())
    for value in values:
        if not isinstance(value, Timings):
            assert images.n_read <= value + IN_FLIGHT


class Recorder:
    """Records the threads that call it."""

    def __init__(self):
        self.threads = set()

    def record(self):
        self.threads.add(threading.get_ident())


class OneStage(Recorder):
    """A mask source of an extension, with only what `MaskSource` requires."""

    identity = {"masks": "one stage"}  # noqa: RUF012 - read only

    def prefetch(self, samples):
        self.record()

    def __call__(self, sample):
        self.record()
        return Masks.from_array(np.ones((1, *sample.size), bool))


class OneThread(Recorder):
    """A featurizer of an extension, with only what `Featurizer` requires."""

    identity = {"features": "one thread"}  # noqa: RUF012 - read only
    channels = 1

    def __call__(self, sample, masks):
        self.record()
        return np.zeros((len(masks), 1), np.float32)


class AnyThread(OneThread):
    parallel = True


@pytest.mark.parametrize("masks", [OneStage(), None])
def test_extensions_run_in_the_calling_thread_unless_they_allow_others(tmp_path, masks):
    this = {threading.get_ident()}
    features = OneThread()
    [*_] = shard_of(tmp_path / "one", masks=masks, features=features)[1]
    assert features.threads == this
    features = AnyThread()
    [*_] = shard_of(tmp_path / "any", masks=masks, features=features)[1]
    assert features.threads.isdisjoint(this)
    if masks:
        assert masks.threads == this


def test_joined_features_are_as_parallel_as_their_parts():
    shape, sam = ShapeFeatures(), SamFeatures(segmenter=ColorSegmenter())
    assert JoinedFeatures(parts={"shape": shape, "none": None}).parallel
    assert not JoinedFeatures(parts={"shape": shape, "sam": sam}).parallel


def test_two_stages_give_the_masks_of_one_call():
    sample = ArrayImages(arrays()).read(ArrayImages(arrays()).records()[0])
    source = auto()
    assert source.finish(sample, source.segment(sample)).counts == source(sample).counts
