"""Rasters labelled window by window: objects, classes and index maps do not end at windows."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from alps.assign.cluster import Cluster
from alps.features.shape import ShapeFeatures
from alps.labelling.engine.local import LocalEngine
from alps.labelling.objects import Matches, join
from alps.labelling.pipeline import label, settings_of
from alps.masks.superpixels import add_superpixels
from alps.store.plan import draft
from alps.store.rasters import StoredRasters
from alps.store.verify import verify
from alps.structures import rle
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from tests.fakes import ArrayRasters

BACKGROUND = (90, 120, 60)
PLACE = Georeference(
    rasterio.CRS.from_epsg(32616).to_wkt(), (0.5, 0.0, 733_601.0, 0.0, -0.5, 3_725_139.0)
)


def create_scene(height=150, width=210):
    """Return a raster of rectangles of few colours, which cross the windows at all places."""
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    colors = [(200, 60, 60), (60, 60, 200), (220, 220, 90)]
    rng = np.random.default_rng(3)
    for i, y in enumerate(range(6, height - 20, 24)):
        x = int(rng.integers(2, 12))
        while x < width - 24:
            w = int(rng.integers(16, 60))
            image[y : y + 16, x : min(x + w, width - 4)] = colors[i % 3]
            x += w + 12
    return image


class ObjectMasks:
    """The connected regions of one colour, except the background; optionally superpixels there."""

    def __init__(self, ground=0):
        self.ground = ground
        self.identity = {"masks": "objects", "ground": ground}

    def prefetch(self, samples):
        """Nothing is slow here."""

    def __call__(self, sample):
        masks = []
        for color in np.unique(sample.image.reshape(-1, 3), axis=0):
            if tuple(color.tolist()) not in (BACKGROUND, (0, 0, 0)):
                regions, n = ndimage.label((sample.image == color).all(axis=2))
                masks += [regions == i for i in range(1, n + 1)]
        found = Masks.from_counts(
            [code for mask in masks for code in rle.encode(mask[None])],
            sample.size,
            predicted_iou=np.full(len(masks), 0.9),
        )
        return add_superpixels(found, sample, self.ground)


def label_rasters(root, images, *, ground=0, k=3, processes=1, **options):
    store, _ = label(
        image_set=images,
        masks=ObjectMasks(ground),
        features=ShapeFeatures(),
        assign=Cluster(k=k),
        engine=LocalEngine(threads=1, processes=processes),
        root=root,
        name="rasters_pl",
        config="",
        **options,
    )
    return store


@pytest.fixture(scope="module")
def two_rasters():
    return ArrayRasters({"a": create_scene(), "b": create_scene(80, 90)})


@pytest.fixture(scope="module")
def finished(two_rasters, tmp_path_factory):
    """A finished store of two rasters, for tests to copy."""
    root = tmp_path_factory.mktemp("finished") / "store"
    label_rasters(root, two_rasters, ground=8, shard_size=4)
    assert verify_rasters(root, two_rasters).faults == ()
    return root


def read_map(root, name="a"):
    with rasterio.open(Path(root, f"ann/train/{name}.tif")) as file:
        return file.read(1)


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(Path(root).rglob("*"))
        if path.suffix in (".parquet", ".npy", ".tif") or path.name == "categories.json"
    }


def kept_objects(store):
    """Return the pixels of each object of the only raster, from the kept pieces."""
    rasters = StoredRasters(store)
    height, width = rasters[0].grid.size
    objects = {}
    for number in range(len(rasters[0].grid.windows)):
        window = rasters.window(number)
        pieces, tile = store.shard(window.shard).objects(), window.tile
        rows = window.rows
        for i in np.flatnonzero(pieces.kept[rows]):
            key = int(pieces.object_id[rows][i])
            mask = objects.setdefault(key, np.zeros((height, width), bool))
            mask[tile.y0 : tile.y1, tile.x0 : tile.x1] |= window.masks[int(i)].to_array()[0]
    return list(objects.values())


def test_the_index_map_is_one_georeferenced_raster(tmp_path):
    images = ArrayRasters({"town/a": create_scene()}, georeference=PLACE)
    store = label_rasters(tmp_path, images)
    with rasterio.open(tmp_path / "ann/train/town/a.tif") as file:
        assert (file.height, file.width) == (150, 210)
        assert file.crs == rasterio.CRS.from_epsg(32616)
        assert tuple(file.transform)[:6] == PLACE.transform
        assert file.nodata == 255
        assert file.tags(1)["CLASS_0"] == "cluster_00"
        whole = file.read(1)
    for record in images.records():
        tile = record.window
        window = whole[tile.y0 : tile.y1, tile.x0 : tile.x1]
        assert np.array_equal(store.index_map(record.image_id), window)
    status = store.images()[0]
    assert status.georeference == PLACE


def test_objects_that_windows_cut_are_whole_and_have_one_class(tmp_path):
    scene = create_scene()
    store = label_rasters(tmp_path, ArrayRasters({"a": scene}))
    images = ArrayRasters({"a": scene}, window=256)
    whole = ObjectMasks()(images.read(images.records()[0]))
    true = {mask.tobytes() for mask in whole.to_array()}
    assert {mask.tobytes() for mask in kept_objects(store)} == true
    index_map = read_map(tmp_path)
    for mask in whole.to_array():
        assert len({*index_map[mask].tolist()} - {255}) == 1
    assert ((index_map == 255) == (scene == BACKGROUND).all(axis=2)).all()


def test_the_map_does_not_depend_on_the_windows(tmp_path):
    scene = create_scene()
    maps = []
    for window in (64, 100, 256):
        label_rasters(tmp_path / str(window), ArrayRasters({"a": scene}, window=window))
        maps.append(read_map(tmp_path / str(window)))
    for other in maps[:-1]:
        pairs = np.unique(np.stack([maps[-1].ravel(), other.ravel()]), axis=1)
        assert len(pairs.T) == 4  # three classes and uncovered pixels, renumbered at most


def test_superpixels_cover_all_pixels_with_data(tmp_path):
    valid = np.ones((150, 210), bool)
    valid[:, :90] = False  # some windows have no data at all
    valid[100:, 120:130] = False
    images = ArrayRasters({"a": create_scene()}, valid={"a": valid})
    store = label_rasters(tmp_path, images, ground=8)
    assert ((read_map(tmp_path) == 255) == ~valid).mean() > 0.995  # slivers have no class
    assert (read_map(tmp_path)[~valid] == 255).all()
    assert {status.status for status in store.images()} == {"ok", "empty"}


def test_a_killed_run_ends_with_the_same_bytes(tmp_path, two_rasters, finished):
    root = shutil.copytree(finished, tmp_path / "killed")
    for names in (
        ("manifest.json", "ann/train/b.tif"),
        ("manifest.json", "ann/train/a.tif", "labels/00002.parquet"),
        ("manifest.json", "objects/00001.parquet", "clusters/centroids.npy", "ann/train/a.tif"),
    ):
        for name in names:
            (root / name).unlink()
        label_rasters(root, two_rasters, ground=8, shard_size=4)
        assert contents(root) == contents(finished)


def test_two_processes_give_the_bytes_of_one(tmp_path, two_rasters, finished):
    label_rasters(tmp_path, two_rasters, ground=8, shard_size=4, processes=2)
    assert contents(tmp_path) == contents(finished)


def test_the_best_uncut_mask_of_an_object_is_kept():
    matches = Matches(
        pairs=np.array([[1, 5], [5, 9], [2, 6]]),
        row=np.array([1, 5, 5, 9, 2, 6]),
        cut=np.array([True, False, False, False, True, True]),
        predicted_iou=np.array([0.99, 0.8, 0.8, 0.9, 0.7, np.nan], np.float32),
        area=np.array([40, 50, 50, 52, 10, 12]),
        core_area=np.array([30, 20, 20, 25, 6, 7]),
    )
    objects = join(matches)
    assert objects.row.tolist() == [1, 2, 5, 6, 9]
    assert objects.object_id.tolist() == [1, 2, 1, 2, 1]
    assert objects.kept.tolist() == [False, True, False, True, True]
    assert objects.area.tolist() == [52, 13, 52, 13, 52]


def test_a_raster_of_nothing_has_no_masks(tmp_path):
    images = ArrayRasters({"a": create_scene(), "b": create_scene(70, 70)})
    images.valid["b"] = np.zeros((70, 70), bool)
    label_rasters(tmp_path, images)
    assert (read_map(tmp_path, "b") == 255).all()


DAMAGED = (
    "objects/00001.parquet",
    "objects/00000.npy",
    "masks/00001.parquet",
    "labels/00000.parquet",
    "ann/train/a.tif",
)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_found_and_made_again(tmp_path, name, two_rasters, finished):
    root = shutil.copytree(finished, tmp_path / "damaged")
    path = root / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert name in {fault.file for fault in verify_rasters(root, two_rasters).faults}
    label_rasters(root, two_rasters, ground=8, shard_size=4)
    assert contents(root) == contents(finished)


def test_a_map_of_other_classes_is_found(tmp_path):
    images = ArrayRasters({"a": create_scene()})
    label_rasters(tmp_path, images)
    (tmp_path / "manifest.json").unlink()
    with rasterio.open(tmp_path / "ann/train/a.tif", "r+") as file:
        file.write((file.read(1) == 0).astype(np.uint8), 1)
    faults = verify_rasters(tmp_path, images, ground=0, shard_size=None).faults
    assert [fault.file for fault in faults] == ["ann/train/a.tif"]


def test_a_changed_window_changes_the_objects_and_the_map(tmp_path):
    images = ArrayRasters({"a": create_scene()})
    label_rasters(tmp_path / "store", images, ground=8, shard_size=4)
    images.arrays["a"] = np.where(create_scene() == 60, 200, create_scene()).astype(np.uint8)
    found = verify_rasters(tmp_path / "store", images, images=images)
    assert len(found.images.changed) == 15
    label_rasters(tmp_path / "store", images, ground=8, shard_size=4)
    label_rasters(tmp_path / "new", images, ground=8, shard_size=4)
    assert contents(tmp_path / "store") == contents(tmp_path / "new")


def verify_rasters(root, image_set, *, ground=8, shard_size=4, images=None):
    assign = Cluster(k=3)
    settings = settings_of(
        image_set,
        ObjectMasks(ground),
        ShapeFeatures(),
        assign,
        name="rasters_pl",
        shard_size=shard_size,
    )
    return verify(
        root,
        draft(**settings),
        paint=assign.paint,
        categories=assign.categories(),
        images=images,
    )
