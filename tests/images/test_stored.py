import numpy as np
import pytest
from PIL import Image

from alps.assign.baselines import Random
from alps.assign.cluster import Cluster
from alps.errors import DatasetNotFound, StoreError
from alps.features.sam import SamFeatures
from alps.images.geo.rasters import Rasters
from alps.images.pixels.folder_pair import FolderPair
from alps.images.pixels.isaid import Isaid
from alps.images.pixels.potsdam import Potsdam
from alps.images.plain.folder import Folder
from alps.images.stored import StoredLabels
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label, settings_of
from alps.masks.auto import AutoMasks
from alps.protocols import BandedSet, LabelledSet
from alps.rasters.view import View
from alps.store.layout import ImageStatus
from alps.store.manifest import write_manifest
from alps.store.plan import prepare
from alps.structures.palette import distinct_colors, index_png
from alps.structures.records import Category
from tests.banded import create_banded, draw_bands
from tests.factories import create_folder_pair, create_images, create_isaid, create_potsdam
from tests.fakes import ColorSegmenter


def make_store(tmp_path, *, num_classes=3, ignore_index=255, finished=True):
    """Five images, the second failed, the third without a mask."""
    create_images(tmp_path / "images", 5, size=(8, 6))
    records = Folder(str(tmp_path / "images"), "mine").records()
    store = prepare(
        tmp_path / "mine_pl",
        name="mine_pl",
        images={"target": "x", "name": "mine", "root": str(tmp_path / "images")},
        records=records,
        identities={stage: {} for stage in ("masks", "features", "assign")},
        num_classes=num_classes,
        ignore_index=ignore_index,
        versions={},
        shard_size=2,
    )
    colors = distinct_colors(num_classes)
    store.write_categories([Category(i, f"cluster {i}", c) for i, c in enumerate(colors)])
    dtype = np.uint8 if ignore_index == 255 else np.uint16
    for shard, plan in enumerate(store.plan):
        statuses = []
        for record in plan:
            i = int(record.image_id[-1])
            status = {1: "failed", 2: "empty"}.get(i, "ok")
            statuses.append(ImageStatus(record.image_id, status, None, 8, 6, 0, 0))
            labels = np.full((8, 6), num_classes - 1, dtype)
            labels[0] = ignore_index
            store.write_annotation(record, index_png(labels, colors, ignore_index))
        store.shard(shard).write_masks(statuses, {})
        if finished or shard == 0:
            store.shard(shard).write_labels(np.zeros(0, np.int32), None)
    if finished:
        write_manifest(store)
    return str(store.root)


@pytest.mark.parametrize(("num_classes", "ignore_index"), [(3, 255), (300, 65535)])
def test_a_store_is_a_labelled_set(tmp_path, num_classes, ignore_index):
    root = make_store(tmp_path, num_classes=num_classes, ignore_index=ignore_index)
    stored = StoredLabels(root=root)
    assert isinstance(stored, LabelledSet)
    assert stored.name == "mine_pl"
    assert stored.view is None
    assert stored.ignore_index == ignore_index
    assert stored.protocol == f"agreement with the {num_classes} pseudo-classes of mine_pl"
    assert [c.id for c in stored.categories()] == list(range(num_classes))
    records = stored.records()
    assert [record.image_id for record in records] == ["image_0", "image_3", "image_4"]
    target = stored.read_target(records[1])
    assert (target[0] == ignore_index).all()
    assert (target[1:] == num_classes - 1).all()
    with Image.open(tmp_path / "images/image_3.png") as image:
        np.testing.assert_array_equal(stored.read(records[1]).image, np.array(image))


def test_the_images_of_a_store_without_a_view_keep_their_fingerprint(tmp_path):
    stored = StoredLabels(root=make_store(tmp_path))
    masks = AutoMasks(segmenter=ColorSegmenter(), points_per_side=3, ground=0)
    settings = settings_of(stored, masks, None, Random(k=2), name="a_pl", shard_size=None)
    assert "view" not in settings["images"]


@pytest.mark.parametrize("dataset", ["folder_pair", "potsdam", "isaid"])
def test_labelled_sets_can_be_labelled_and_trained_on(tmp_path, dataset):
    """What label.py reads, and what train.py then gets."""
    create = {"folder_pair": create_folder_pair, "potsdam": create_potsdam, "isaid": create_isaid}
    create[dataset](tmp_path / "data")
    images = {
        "folder_pair": lambda root: FolderPair(root=root),
        "potsdam": lambda root: Potsdam(root=root, tile_size=64),
        "isaid": lambda root: Isaid(root=root, tile_size=64, stride=64),
    }[dataset](str(tmp_path / "data"))
    segmenter = ColorSegmenter()
    label(
        image_set=images,
        masks=AutoMasks(
            segmenter=segmenter, points_per_side=3, stability_score_thresh=0.5, ground=0
        ),
        features=SamFeatures(segmenter=segmenter),
        assign=Cluster(k=2),
        engine=LocalEngine(threads=1),
        root=tmp_path / "x_pl",
        name="x_pl",
        config="",
    )
    stored = StoredLabels(root=str(tmp_path / "x_pl"))
    by_id = {record.image_id: record for record in images.records()}
    assert stored.records()
    for record in stored.records():
        assert record == by_id[record.image_id]
        np.testing.assert_array_equal(stored.read(record).image, images.read(record).image)
        target = stored.read_target(record)
        assert target.shape == images.read_target(record).shape
        assert set(np.unique(target)) <= {0, 1, 255}


def test_moved_images_are_read(tmp_path):
    root = make_store(tmp_path)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DatasetNotFound,
        match=rf"the images of the label store {root} are not in {tmp_path}/images "
        r"\(no image_0.png\); set dataset.images to their folder",
    ):
        StoredLabels(root=root).records()
    stored = StoredLabels(root=root, images=str(tmp_path / "elsewhere"))
    assert stored.read(stored.records()[0]).size == (8, 6)


def test_the_error_of_a_missing_store_names_the_command(tmp_path):
    command = "python label.py +dataset=samrs"
    stored = StoredLabels(root=str(tmp_path / "samrs_pl"), made_by=command)
    with pytest.raises(
        DatasetNotFound,
        match=rf"no label store at {tmp_path}/samrs_pl \(store.json is missing; found no such "
        rf"folder\); make it with `{command.replace('+', '[+]')}`, or set dataset.root to",
    ):
        stored.records()
    with pytest.raises(DatasetNotFound, match=r"an empty folder\); make one with label\.py"):
        StoredLabels(root=str(tmp_path)).records()


@pytest.mark.parametrize("use", [StoredLabels.records, StoredLabels.categories])
@pytest.mark.parametrize(
    ("missing", "done"), [((), "1 of 3"), (("categories.json", "plan.parquet"), "0 of 0")]
)
def test_an_unfinished_store_is_refused(tmp_path, use, missing, done):
    root = make_store(tmp_path, finished=False)
    for name in missing:  # not written yet
        (tmp_path / "mine_pl" / name).unlink()
    expected = rf"mine_pl is not finished \({done} shards have labels\); run the same label.py comm"
    with pytest.raises(StoreError, match=expected):
        use(StoredLabels(root=root))


@pytest.mark.parametrize("text", [None, "", "{}", '[{"id": 0}]', "[1]"])
def test_a_damaged_list_of_classes_is_an_error(tmp_path, text):
    root = make_store(tmp_path)
    path = tmp_path / "mine_pl/categories.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError, match=r"cannot read .*categories.json: .*and verify=true"):
        StoredLabels(root=root).categories()


def test_a_store_of_rasters_has_their_bands(tmp_path):
    bands = draw_bands((96, 64))[0]
    create_banded(tmp_path / "in/a.tif", bands)
    images = Rasters(root=str(tmp_path / "in"), window=64, overlap=16, bands=["B12", 2])
    segmenter = ColorSegmenter()
    label(
        image_set=images,
        masks=AutoMasks(segmenter=segmenter, points_per_side=3, ground=0),
        features=SamFeatures(segmenter=segmenter),
        assign=Cluster(k=2),
        engine=LocalEngine(threads=1),
        root=tmp_path / "store",
        name="a_pl",
        config="",
    )
    stored = StoredLabels(root=str(tmp_path / "store"))
    assert stored.band_names == images.band_names == ("B12", "B02")
    assert isinstance(stored, BandedSet)
    assert View.from_json(stored.view) == View.from_json(images.view)
    records = stored.records()
    assert len(records) == 2
    for record in records:
        tile = record.window
        expected = bands[[12, 1], tile.y0 : tile.y1, tile.x0 : tile.x1]
        np.testing.assert_array_equal(stored.read(record).bands, expected)
