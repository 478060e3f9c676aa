"""No-data pixels, from masks to index maps: they get no class and do not affect other pixels."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

from alps.assign.baselines import Binary, Random
from alps.assign.category import ByCategory
from alps.assign.cluster import Cluster
from alps.cli.summary import print_summary
from alps.features.joined import JoinedFeatures
from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.images.plain.folder import Folder
from alps.labelling.shard import assign_shard, label_shard
from alps.labelling.timings import Timings
from alps.masks.auto import AutoMasks
from alps.masks.box import BoxMasks
from alps.masks.stored import StoredMasks
from alps.store.counts import count
from alps.store.faults import find_faults
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.store.plan import prepare
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import Category
from tests.factories import create_raster
from tests.fakes import ArrayImages, BoxSegmenter, ColorSegmenter, flat_colors

SIZE = (64, 96)
TILES = {"tile_size": 64, "tile_overlap": 16}


def valid_mask(i):
    """Return a valid mask: True right of a slanted line, whose offset grows with ``i``."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return x > 20 + 5 * i + y / 3


def create_images(border=lambda size: 0, n=4):
    """Return ``n`` images, all but the second with a no-data border of the values ``border``."""
    images = ArrayImages({})
    for i in range(n):
        images.arrays[str(i)] = image = flat_colors(*SIZE, seed=i)
        if i != 1:
            images.valid[str(i)] = valid = valid_mask(i)
            image[~valid] = border((np.count_nonzero(~valid), 3))
    return images


def create_parts():
    segmenter = ColorSegmenter()
    features = {
        "sam": SamFeatures(segmenter=segmenter, normalize=True, **TILES),
        "shape": ShapeFeatures(color=2.0, shape=1.0, **TILES),
    }
    options = {
        "points_per_side": 6,
        "stability_score_thresh": 0.5,
        "ground": 8,
        "passes": [[0.7, 0.8]],
    }
    masks = AutoMasks(segmenter=segmenter, **options, **TILES)
    return {"masks": masks, "features": JoinedFeatures(parts=features)}


def make_store(root, images, *, masks, assign, features=None):
    """Make a store with labels, without the report, which is tested elsewhere."""
    identities = {"masks": masks.identity, "assign": assign.identity}
    if features:
        identities["features"] = features.identity
    store = prepare(
        root,
        name="tiny_pl",
        images={"root": images.root},
        records=images.records(),
        identities=identities,
        num_classes=assign.num_classes,
        ignore_index=255,
        versions={},
        shard_size=3,
    )
    for shard in range(len(store.plan)):
        for _ in label_shard(shard, store=store, image_set=images, masks=masks, features=features):
            pass
    clusters = assign.fit(store.all_features(), store.all_areas()) if features else None
    if clusters is not None:
        store.write_clusters(clusters)
    store.write_categories(assign.categories())
    for shard in range(len(store.plan)):
        assign_shard(shard, store=store, assign=assign, clusters=clusters)
    return store


def statuses(store):
    return {s.image_id: s for s in store.images()}


def maps(store):
    return {p.stem: np.asarray(Image.open(p)) for p in sorted(store.root.glob("ann/*/*.png"))}


def faults(store, assign):
    return [f for i in range(len(store.plan)) for f in find_faults(store, i, assign.paint, ())]


def test_labels_do_not_depend_on_the_values_of_nodata_pixels(tmp_path):
    """With zeros, white or noise there, all labels and features are identical."""
    rng = np.random.default_rng(0)
    borders = {
        "black": lambda size: 0,
        "white": lambda size: 255,
        "noise": lambda size: rng.integers(0, 256, size),
    }
    stores = [
        make_store(
            tmp_path / name,
            create_images(border),
            **create_parts(),
            assign=Cluster(k=4, weight="area", fill=4),
        )
        for name, border in borders.items()
    ]
    first = maps(stores[0])
    assert {255} < set(np.unique(first["0"]).tolist())
    assert (first["1"] != 255).mean() > 0.99
    for store in stores[1:]:
        for name, index_map in maps(store).items():
            np.testing.assert_array_equal(index_map, first[name])
        for shard in range(len(store.plan)):
            np.testing.assert_array_equal(
                store.shard(shard).features(), stores[0].shard(shard).features()
            )


BORDERS = {
    "0": lambda size, rng: 0,
    "255": lambda size, rng: 255,
    "noise": lambda size, rng: rng.normal(100, 80, size),
    "NaN": lambda size, rng: np.nan,
    "nodata": lambda size, rng: -9999,
}


def write_border(path, border):
    """Write a GeoTIFF of floats with a no-data border: internal mask, NaN or GDAL's tag."""
    rng = np.random.default_rng(0)
    bands = flat_colors(*SIZE, seed=2).transpose(2, 0, 1) / np.float32(7)
    hole = ~valid_mask(0)
    bands[:, hole] = BORDERS[border]((3, np.count_nonzero(hole)), rng)
    create_raster(path, bands, nodata=-9999 if border == "nodata" else None)
    if border not in ("NaN", "nodata"):
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "r+") as file,
        ):
            file.write_mask(~hole)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_that_differ_only_in_their_nodata_border_get_the_same_labels(tmp_path):
    """Less than 0.1 % of the pixels may differ, since the stretch is computed in floats."""
    found = {}
    for border in BORDERS:
        write_border(tmp_path / border / "a.tif", border)
        parts = {**create_parts(), "assign": Cluster(k=3, fill=9)}
        store = make_store(tmp_path / f"{border}_pl", Folder(str(tmp_path / border), "x"), **parts)
        found[border] = maps(store)["a"]
    expected = found["0"]
    assert (expected[~valid_mask(0)] == 255).all()
    assert (expected[valid_mask(0)] != 255).mean() > 0.99
    assert len(np.unique(expected)) == 4
    for index_map in found.values():
        assert (index_map != expected).mean() < 0.001


@pytest.mark.parametrize("assign", [Cluster(k=3, fill=30), Random(k=3, fill=30), Binary()])
def test_no_assigner_labels_nodata_pixels(tmp_path, assign):
    parts = create_parts()
    store = make_store(tmp_path / "s", create_images(), **parts, assign=assign)
    for image_id, index_map in maps(store).items():
        valid = valid_mask(int(image_id)) if image_id != "1" else np.ones(SIZE, bool)
        assert (index_map[~valid] == 255).all()
        assert (index_map[valid] != 255).mean() > 0.99
    assert faults(store, assign) == []
    for status in statuses(store).values():
        assert 0.95 < status.coverage <= 1
        if status.image_id != "1":
            np.testing.assert_array_equal(status.read_valid(), valid_mask(int(status.image_id)))
            assert status.nodata == (~valid_mask(int(status.image_id))).sum()


def test_a_class_on_nodata_pixels_is_a_fault(tmp_path):
    assign = Binary()
    store = make_store(
        tmp_path / "s", create_images(), masks=create_parts()["masks"], assign=assign
    )
    path = store.root / "ann/train/0.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0] = 1
    Image.fromarray(pixels).save(path)
    (fault,) = faults(store, assign)
    assert fault.file == "ann/train/0.png"
    assert fault.problem == "differs from its masks, painted with their classes"


def test_a_malformed_valid_mask_is_a_fault(tmp_path):
    store = make_store(
        tmp_path / "s", create_images(n=1), masks=create_parts()["masks"], assign=Binary()
    )
    (status,) = store.shard(0).images()
    store.shard(0).write_masks([replace(status, valid=b"1")], store.shard(0).masks())
    (fault,) = faults(store, Binary())
    assert fault.file == "images/00000.parquet"
    assert fault.problem.startswith("valid pixels of 0: its counts hold 1 pixels")


def test_an_image_without_data_is_empty_and_counted(tmp_path, capsys):
    images = create_images(n=2)
    images.arrays["blank"] = flat_colors(*SIZE, seed=9)
    images.valid["blank"] = np.zeros(SIZE, bool)
    parts = create_parts()
    store = make_store(tmp_path / "s", images, **parts, assign=Cluster(k=2))
    found = statuses(store)["blank"]
    assert (found.status, found.n_masks, found.pixels, found.coverage) == ("empty", 0, 0, 0)
    assert (maps(store)["blank"] == 255).all()
    assert parts["masks"].segmenter.embedded == 4  # two tiles of each of the others
    counts = count(store)
    nodata = (~valid_mask(0)).sum() + 64 * 96
    assert (counts.empty, counts.blank, counts.nodata_images) == (1, 1, 2)
    assert (counts.nodata, counts.pixels) == (nodata, 3 * 64 * 96 - nodata)
    print_summary(store, Timings())
    output = capsys.readouterr().out
    assert "1 of them without any mask (1 without data)" in output
    share = nodata / (3 * 64 * 96)
    assert f"{share:.1%} of all pixels, in 2 images: they get no label" in output
    assert "of the pixels with data are covered by masks" in output


class BoxedImages(ArrayImages):
    def categories(self):
        return [Category(0, "ship", (1, 2, 3))]


def test_a_box_on_nodata_pixels_is_reported_and_counted(tmp_path, caplog):
    boxes = ((60, 8, 80, 24), (4, 8, 30, 24), (0, 30, 20, 60))
    rows = [Annotation(str(i), "ship", box) for i, box in enumerate(boxes)]
    checked, _ = check_boxes(rows, {"ship": 0}, SIZE)
    image = flat_colors(*SIZE, seed=0)
    images = BoxedImages({"0": image}, valid={"0": valid_mask(0)}, boxes={"0": checked})
    with caplog.at_level(logging.WARNING):
        store = make_store(
            *(tmp_path / "s", images),
            masks=BoxMasks(segmenter=BoxSegmenter()),
            assign=ByCategory(images),
        )
    assert statuses(store)["0"].dropped == 2
    assert caplog.messages == [
        "dropped a box of 0: annotation 1 (from 0): most of its mask is no data",
        "dropped a box of 0: annotation 2 (from 0): most of its mask is no data",
    ]
    index_map = maps(store)["0"]
    assert set(np.unique(index_map).tolist()) == {0, 255}
    assert (index_map[8:24, 60:80] == 0).all()


def test_stored_masks_are_reduced_to_valid_pixels(tmp_path):
    images = create_images()
    before = ArrayImages(images.arrays)  # without valid masks
    masks = replace(create_parts()["masks"], ground=0)
    old = make_store(tmp_path / "old", before, masks=masks, assign=Binary())
    stored = StoredMasks(store=str(old.root), ground=8)
    new = make_store(tmp_path / "new", images, masks=stored, assign=Binary())
    assert any(
        (m.to_array() & ~valid_mask(0)).any() for i, m in old.shard(0).masks().items() if i == "0"
    )
    for shard in range(len(new.plan)):
        for image_id, found in new.shard(shard).masks().items():
            if image_id != "1":
                assert not (found.to_array() & ~valid_mask(int(image_id))).any()
            assert statuses(new)[image_id].coverage > 0.95


def test_a_shard_without_nodata_has_no_column_valid(tmp_path):
    """Stores of earlier versions lack the column too, and are read as valid everywhere."""
    store = make_store(
        tmp_path / "s", create_images(), masks=create_parts()["masks"], assign=Binary()
    )
    plain = ArrayImages(create_images().arrays)
    full = make_store(tmp_path / "full", plain, masks=create_parts()["masks"], assign=Binary())

    def columns(store):
        return pq.read_schema(store.root / "images/00000.parquet").names

    assert [name for name in columns(store) if name != "valid"] == columns(full)
    assert "valid" in columns(store)
    assert "valid" not in columns(full)
    assert LabelStore(full.root).shard(0).images()[0].valid is None


def test_a_status_counts_its_valid_pixels():
    full = ImageStatus("a", "ok", None, 8, 10, 1, 20)
    assert (full.pixels, full.nodata, full.coverage, full.read_valid()) == (80, 0, 0.25, None)
    code = Masks.from_array(valid_mask(0)[None, :8, 20:30]).counts[0]
    partial = replace(full, valid=code)
    assert partial.pixels == valid_mask(0)[:8, 20:30].sum() == 80 - partial.nodata
    failed = ImageStatus("a", "failed", "zero bytes", 0, 0, 0, 0)
    assert (failed.pixels, failed.nodata, failed.coverage) == (0, 0, 0)
