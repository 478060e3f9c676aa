"""Stores of georeferenced images as COGs and vector layers."""

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate

from alps.errors import ConfigError
from alps.export import export_store
from alps.export.__main__ import main
from alps.rasters.formats import VECTORS
from alps.rasters.index_map import create_index_map
from alps.store.manifest import write_manifest
from alps.store.objects import ObjectPieces
from alps.structures import rle
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, ImageRecord
from alps.structures.tiles import Tile, cut_tiles
from alps.structures.windows import WindowGrid, window_id
from tests.export.stores import boxed_store, files, open_store, write_masks
from tests.rasters.test_polygons import wkt

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")  # rasterio.merge
UTM = wkt(32632)
SIZE = (60, 100)
RASTERS = {
    "west": Georeference(UTM, (0.5, 0.0, 691_000.0, 0.0, -0.5, 5_334_000.0)),
    "east": Georeference(UTM, (0.5, 0.0, 691_050.0, 0.0, -0.5, 5_333_990.0)),
}
COLORS = distinct_colors(3)
NAMES = ["class 0", "class 1", "class 2"]


def window_store(root, rasters=RASTERS):
    """Two rasters in windows of 64 px; masks are clipped by their windows, maps are whole."""
    records, masks, places = [], {}, {}
    rng = np.random.default_rng(0)
    maps = {}
    for raster, place in rasters.items():
        grid = WindowGrid(cut_tiles(SIZE, 64, 16))
        index_map = np.full(SIZE, 255, np.uint8)
        for window in grid.windows:
            records.append(ImageRecord(window_id(raster, window), f"{raster}.tif", window=window))
            dense = np.zeros((4, *window.size), bool)
            for mask in dense[:3]:
                y, x = rng.integers(0, 40, 2)
                mask[y : y + 15, x : x + 20] = True
            masks[records[-1].image_id] = Masks.from_counts(
                rle.encode(dense), window.size, predicted_iou=np.array([0.5, 0.6, 0.7, 0.8])
            )
            places[records[-1].image_id] = place
            core = grid.core(window)
            painted = paint(masks[records[-1].image_id], np.arange(4) % 3, 255)
            rows = slice(core.y0 - window.y0, core.y1 - window.y0)
            columns = slice(core.x0 - window.x0, core.x1 - window.x0)
            index_map[core.y0 : core.y1, core.x0 : core.x1] = painted[rows, columns]
        maps[raster] = index_map
    store = open_store(root, records, k=3, masks={}, assign={"assigner": "cluster"}, shard_size=3)
    store.write_categories([Category(i, NAMES[i], COLORS[i]) for i in range(3)])
    for shard, part in enumerate(store.plan):
        write_masks(store, shard, masks, places)
        ids = np.concatenate([np.arange(4, dtype=np.int32) % 3 for _ in part])
        store.shard(shard).write_objects(
            pieces(np.arange(12 * shard, 12 * shard + len(ids))), np.zeros((0, 0))
        )
        store.shard(shard).write_labels(ids, None)
    for raster, index_map in maps.items():
        path = root / f"ann/train/{raster}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        with create_index_map(path, SIZE, rasters[raster], COLORS, 255, NAMES) as write:
            write(Tile(0, 0, SIZE[1], SIZE[0]), index_map)
    write_manifest(store)
    return store, maps, {r.image_id: masks[r.image_id] for part in store.plan for r in part}


def pieces(row):
    """The first masks of the first two windows are one object, and its second mask is replaced."""
    object_id = np.where(row == 4, 0, row)
    shared = np.isin(row, (0, 4))
    return ObjectPieces(object_id, shared, row != 5, np.full(len(row), 300))


def read(path):
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, layer=path.stem)  # beside the styles of a GeoPackage


def burn(frame, place, size=SIZE):
    transform = rasterio.Affine(*place.transform)
    shapes = zip(frame.geometry, frame["class_id"], strict=True)
    return rasterize(shapes, size, fill=255, transform=transform, dtype=np.uint8)


@pytest.mark.parametrize("layout", VECTORS)
def test_regions_are_the_index_maps(layout, tmp_path):
    store, maps, _ = window_store(tmp_path / "store")
    before = files(store.root)
    tally = export_store(store, layout, tmp_path / "out")
    assert files(store.root) == before
    frame = read(tmp_path / f"out/regions{VECTORS[layout]}")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"regions{VECTORS[layout]}", "regions.qml"}
    assert (tally.images, tally.groups["regions"]) == (2, len(frame))
    assert frame.is_valid.all()
    assert frame["class"].tolist() == [f"class {i}" for i in frame["class_id"]]
    frame = frame.to_crs(UTM)
    for raster, index_map in maps.items():
        part = frame[frame["raster"] == raster]
        np.testing.assert_array_equal(burn(part, RASTERS[raster]), index_map)
        assert part["area_m2"].sum() == pytest.approx((index_map != 255).sum() * 0.25, rel=1e-9)


def test_masks_have_scores_and_objects_of_several_windows_are_joined(tmp_path):
    store, _, masks = window_store(tmp_path / "store")
    tally = export_store(store, "gpkg", tmp_path / "out", per="mask")
    frame = read(tmp_path / "out/masks.gpkg").set_index("mask_id")
    rows = np.arange(16).reshape(4, 4)[:, :3].ravel()  # the last mask of each window is empty
    assert sorted(frame.index) == sorted({*rows.tolist()} - {4, 5})
    assert (tally.masks, tally.skipped["empty"]) == (len(frame), 4)
    for number, (image_id, window_masks) in enumerate(masks.items()):
        window, raster = store.record(image_id).window, image_id.rpartition("/")[0]
        dense = window_masks.to_array()
        for i in range(3):
            if (row := 4 * number + i) not in frame.index or row == 0:
                continue
            one = frame.loc[[row]]
            assert one["score"].item() == pytest.approx(0.5 + 0.1 * i)
            assert one["raster"].item() == raster
            burnt = burn(one.assign(class_id=1), RASTERS[raster]) == 1
            expected = np.zeros(SIZE, bool)
            expected[window.y0 : window.y1, window.x0 : window.x1] = dense[i]
            np.testing.assert_array_equal(burnt, expected)
    joined = np.zeros(SIZE, bool)
    for image_id in [*masks][:2]:  # of the raster "east"
        window = store.record(image_id).window
        part = joined[window.y0 : window.y1, window.x0 : window.x1]
        part |= masks[image_id].to_array()[0]
    burnt = burn(frame.loc[[0]].assign(class_id=1), RASTERS["east"]) == 1
    np.testing.assert_array_equal(burnt, joined)


def test_rasters_of_one_grid_become_one_valid_cog(tmp_path):
    store, maps, _ = window_store(tmp_path / "store")
    export_store(store, "cog", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"mosaic.tif", "mosaic.qml"}
    assert cog_validate(tmp_path / "out/mosaic.tif", strict=True, quiet=True)[0]
    with rasterio.open(tmp_path / "out/mosaic.tif") as file:
        mosaic = file.read(1)
        assert file.tags(1)["CLASS_2"] == "class 2"
        assert file.colormap(1)[1][:3] == COLORS[1]
    assert mosaic.shape == (80, 200)
    np.testing.assert_array_equal(mosaic[:60, :100], maps["west"])
    np.testing.assert_array_equal(mosaic[20:, 100:], maps["east"])


def test_other_grids_become_a_cog_each(tmp_path, caplog):
    rasters = {**RASTERS, "sub/far": Georeference(UTM, (0.4, 0.3, 7e5, 0.3, -0.4, 5e6))}
    store, maps, _ = window_store(tmp_path / "store", rasters)
    export_store(store, "cog", tmp_path / "out")
    assert "do not share a grid" in caplog.text
    for raster, index_map in maps.items():
        path = tmp_path / f"out/{raster}.tif"
        assert cog_validate(path, strict=True, quiet=True)[0]
        with rasterio.open(path) as file:
            assert tuple(file.transform)[:6] == rasters[raster].transform
            np.testing.assert_array_equal(file.read(1), index_map)


def test_whole_images_with_a_georeference_are_placed(tmp_path, capsys, caplog):
    place = RASTERS["west"]
    places = {"a": place, "sub/c": Georeference(wkt(32633), place.transform)}
    store = boxed_store(tmp_path / "store", places=places)
    main([str(store.root), "--to", "geoparquet", "--out", str(tmp_path / "out")])
    assert "2 images, 3 regions in" in (said := capsys.readouterr().out)
    assert "skipped: 3 images without georeference" in said
    frame = read(tmp_path / "out/regions.parquet")
    assert "several CRSs; all polygons are converted to the first" in caplog.text
    burnt = burn(frame[frame["raster"] == "a"], place, (40, 60))
    np.testing.assert_array_equal(burnt, store.index_map("a"))


def test_a_store_without_georeference_is_refused(tmp_path):
    store = boxed_store(tmp_path / "store")
    for layout in ("cog", *VECTORS):
        with pytest.raises(ConfigError, match=r"no image of .* has a georeference .* --to coco"):
            export_store(store, layout, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_fit_are_refused(tmp_path):
    store = boxed_store(tmp_path / "store")
    for layout, options, match in (
        ("coco", {"per": "mask"}, "--per and --simplify are options of gpkg"),
        ("gpkg", {"per": "class"}, "--per class: expected region or mask"),
        ("gpkg", {"simplify": -1}, "expected metres >= 0"),
        ("gpkg", {"per": "mask", "simplify": 1}, "only with --per region"),
    ):
        with pytest.raises(ConfigError, match=match):
            export_store(store, layout, tmp_path / "out", **options)
