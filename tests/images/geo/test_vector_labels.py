"""Features of a vector layer as ground truth and as prompts, in windows of rasters."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from alps.errors import ConfigError, LabelError
from alps.images import Vectors
from alps.protocols import InstanceSet, LabelledSet, ViewedSet
from alps.structures.tiles import Tile
from tests.factories import create_raster, draw_scene

CRS = rasterio.CRS.from_epsg(32632)
TRANSFORM = rasterio.Affine(0.5, 0.1, 691_000.0, 0.1, -0.5, 5_334_000.0)  # turned a little
SIZE = (100, 160)
#: x0 y0 x1 y1 in pixels; the last but one is larger than a window, the last outside.
BOXES = {
    "house": (10, 10, 30, 25),
    "shed": (20, 15, 26, 21),  # on the house
    "barn": (60, 40, 80, 70),
    "road": (5, 80, 150, 88),
    "far": (400, 400, 420, 420),
}
KINDS = ["building", "shed", "building", "road", "building"]


def place(geometry):
    a, b, c, d, e, f = TRANSFORM[:6]
    return shapely.affinity.affine_transform(geometry, [a, b, d, e, c, f])


def boxes(**changes):
    return [place(shapely.box(*box)) for box in (BOXES | changes).values()]


def write_layer(path, geometry=None, kinds=KINDS, crs=CRS):
    geometry = boxes() if geometry is None else geometry
    geopandas.GeoDataFrame({"kind": kinds}, geometry=[*geometry], crs=crs).to_file(path)
    return path


def write_raster(path, size=SIZE, seed=0, **options):
    image = draw_scene(size, seed)[0].transpose(2, 0, 1)
    create_raster(path, image, **{"crs": CRS, "transform": TRANSFORM, **options})


@pytest.fixture
def vectors(tmp_path):
    write_raster(tmp_path / "town.tif")
    write_layer(tmp_path / "town.gpkg")

    def make(**options):
        settings = {"root": str(tmp_path / "town.tif"), "vectors": str(tmp_path / "town.gpkg")}
        return Vectors(**{**settings, "window": 64, "overlap": 16, **options})

    return make


def by_window(images):
    return {tuple(r.window.__getstate__()): r for r in images.records()}


def test_it_is_a_labelled_set_and_an_instance_set(vectors):
    images = vectors(field="kind")
    assert isinstance(images, LabelledSet)
    assert isinstance(images, InstanceSet)
    assert isinstance(images, ViewedSet)
    names = [category.name for category in images.categories()]
    assert names == ["background", "building", "road", "shed"]
    assert images.ignore_index == 255
    assert "4 classes of town.gpkg, pixels outside all features class 0" in images.protocol
    assert [c.name for c in vectors().categories()] == ["background", "object"]
    assert [c.name for c in vectors(background=False).categories()] == ["object"]


def test_targets_are_the_features_small_ones_on_top(vectors):
    images = vectors(field="kind")
    ids = {c.name: c.id for c in images.categories()}
    whole = np.zeros(SIZE, np.uint8)
    for name in ("road", "barn", "house", "shed"):
        x0, y0, x1, y1 = BOXES[name]
        whole[y0:y1, x0:x1] = ids[{"barn": "building", "house": "building"}.get(name, name)]
    for record in images.records():
        w = record.window
        target = images.read_target(record)
        np.testing.assert_array_equal(target, whole[w.y0 : w.y1, w.x0 : w.x1])
        assert target.dtype == np.uint8


def test_pixels_that_have_none_of_the_classes_are_ignored(vectors):
    record = vectors().records()[0]
    target = vectors(field="kind", classes=["building"]).read_target(record)
    assert target[12, 12] == 1
    assert target[17, 22] == 255  # the shed
    assert target[0, 0] == 0
    target = vectors(field="kind", background=False).read_target(record)
    assert (target[0, 0], target[12, 12], target[17, 22]) == (255, 0, 2)


def test_a_box_is_a_prompt_of_one_window_and_a_large_one_of_all(vectors):
    images = vectors(field="kind")
    rows, windows = [], {}
    for record in images.records():
        sample = images.read(record)
        rows += sample.boxes.object_id.tolist()
        windows[record.image_id] = sample.boxes
        for box in sample.boxes:
            name = [*BOXES][box.object_id.item()]
            x0, y0, x1, y1 = BOXES[name]
            w = record.window
            clipped = Tile(x0, y0, x1, y1).intersect(w)
            expected = np.array([clipped.x0, clipped.y0, clipped.x1, clipped.y1]) - [
                *(w.x0, w.y0, w.x0, w.y0)
            ]
            np.testing.assert_allclose(box.xyxy[0], expected, atol=1e-3)
            assert images.categories()[box.category_id.item()].name == KINDS[[*BOXES].index(name)]
    n_below = sum(
        w.intersect(Tile(5, 80, 150, 88)) is not None for w in map(_window, images.records())
    )
    assert sorted(rows) == [0, 1, 2, *[3] * n_below]
    assert n_below >= 3


def _window(record):
    return record.window


def test_corners_are_those_of_the_smallest_rectangle(vectors, tmp_path):
    diamond = place(shapely.Polygon([(20, 10), (30, 20), (20, 30), (10, 20)]))
    write_layer(tmp_path / "town.gpkg", [diamond], ["building"])
    sample = vectors().read(vectors().records()[0])
    corners = {tuple(c) for c in sample.boxes.quad.reshape(4, 2).round(2).tolist()}
    assert corners == {(20, 10), (30, 20), (20, 30), (10, 20)}


def test_true_masks_are_the_features(vectors):
    images = vectors()
    for record in images.records():
        sample = images.read(record)
        masks = images.read_instances(record, sample.boxes, sample.size)
        assert len(masks) == len(sample.boxes)
        for mask, box in zip(masks.to_array(), sample.boxes, strict=True):
            x0, y0, x1, y1 = box.xyxy[0].round().astype(int)
            assert mask[y0:y1, x0:x1].all()
            assert mask.sum() == (y1 - y0) * (x1 - x0)
        subset = sample.boxes[::-1][:1]
        one = images.read_instances(record, subset, sample.size)
        assert one.boxes.object_id.tolist() == subset.object_id.tolist()


def test_only_windows_with_a_changed_feature_have_another_digest(vectors, tmp_path):
    def digests(**options):
        return {r.image_id: r.annotations for r in vectors(**options).records()}

    before = digests(field="kind")
    assert digests(field="kind") == before
    write_layer(tmp_path / "town.gpkg", boxes(shed=(20, 15, 26, 21.001)))
    changed = {i for i, digest in digests(field="kind").items() if digest != before[i]}
    assert changed == {"town/000000_000000"}
    write_layer(tmp_path / "town.gpkg", boxes(far=(400, 400, 420, 421)))
    assert digests(field="kind") == before
    write_layer(tmp_path / "town.gpkg", kinds=["shed", *KINDS[1:]])
    assert digests(field="kind")["town/000000_000000"] != before["town/000000_000000"]
    write_layer(tmp_path / "town.gpkg")
    options = {"field": "kind", "classes": ["road", "shed", "building"]}
    assert all(digest != before[i] for i, digest in digests(**options).items())


def test_layers_in_another_crs_lines_and_points_are_placed(vectors, tmp_path):
    series = geopandas.GeoSeries(boxes(), crs=CRS).to_crs(4326)
    write_layer(tmp_path / "town.gpkg", series, crs=4326)
    expected, images = vectors(), vectors()
    record = images.records()[0]
    x0, y0, x1, y1 = BOXES["house"]
    np.testing.assert_array_equal(images.read_target(record)[y0:y1, x0:x1], 1)
    np.testing.assert_array_equal(images.read_target(record), expected.read_target(record))

    line, point = place(shapely.LineString([(5, 20), (45, 20)])), place(shapely.Point(30, 40))
    write_layer(tmp_path / "town.gpkg", [line, point], ["road", "tree"])
    images = vectors(field="kind", width=2, point_size=3)
    target = images.read_target(images.records()[0])
    area = 0.26  # m² per pixel
    assert (target == 1).sum() * area == pytest.approx(40 * 0.51**0.5 / 2**0.5 * 2, rel=0.1)
    assert (target == 2).sum() * area == pytest.approx(9, rel=0.2)
    sample = images.read(images.records()[0])
    masks = images.read_instances(images.records()[0], sample.boxes, sample.size)
    assert masks.boxes.object_id.tolist() == [0]  # a point has no outline
    with pytest.raises(ConfigError, match=r"1 lines, which have no area; set dataset.width"):
        vectors(point_size=3).records()


def test_each_raster_may_have_a_file(tmp_path):
    for seed, name in enumerate(("a/x", "b/x")):
        write_raster(tmp_path / f"in/{name}.tif", seed=seed)
        (tmp_path / f"labels/{name}").parent.mkdir(parents=True)
    write_layer(tmp_path / "labels/a/x.gpkg", boxes()[:1], KINDS[:1])
    write_layer(tmp_path / "labels/b/x.geojson", boxes()[2:3], KINDS[2:3])
    settings = {"root": str(tmp_path / "in"), "vectors": str(tmp_path / "labels"), "window": 256}
    images = Vectors(**settings)
    first, second = (images.read_target(record) for record in images.records())
    assert (first[12, 12], first[50, 70]) == (1, 0)
    assert (second[12, 12], second[50, 70]) == (0, 1)
    (tmp_path / "labels/b/x.geojson").unlink()
    with pytest.raises(LabelError, match=r"1 of 2 images have no label \(first: b/x\)"):
        Vectors(**settings).records()


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_inconsistencies_are_findings(vectors, tmp_path):
    bow_tie = place(shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]))
    geometry = [*boxes(), bow_tie, None]
    write_layer(tmp_path / "town.gpkg", geometry, [*KINDS, None, "building"], crs=None)
    write_raster(
        tmp_path / "more/other.tif", transform=rasterio.Affine(0.5, 0.1, 9e5, 0.1, -0.5, 9e5)
    )
    write_raster(tmp_path / "more/town.tif")
    options = {"root": str(tmp_path / "more"), "field": "kind", "classes": ["building", "pool"]}
    findings = {f.kind: f for f in vectors(**options).findings()}
    assert {kind: f.count for kind, f in findings.items()} == {
        "vectors_without_crs": 1,
        "features_outside": 1,
        "rasters_without_features": 1,
        "unknown_class": 3,
        "unusable_features": 1,
        "repaired_features": 1,
        "absent_classes": 1,
    }
    assert "(first: other.tif)" in str(findings["rasters_without_features"])
    assert "town.gpkg feature 1: shed" in str(findings["unknown_class"])
    assert "the CRS of the raster is assumed" in str(findings["vectors_without_crs"])
    assert "(first: pool)" in str(findings["absent_classes"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"classes": "building"}, "expected a list of distinct names"),
        ({"field": "kind", "classes": ["a", "a"]}, "expected a list of distinct names"),
        ({"field": "kind", "classes": ["background"]}, "the name of class 0; rename it"),
        ({"classes": ["a", "b"]}, "dataset.field=null gives all features one class"),
        ({"width": 0}, "dataset.width=0: expected metres > 0"),
        ({"field": "height"}, "has no attribute 'height'; its attributes are kind"),
    ],
)
def test_settings_are_checked(vectors, options, match):
    with pytest.raises(ConfigError, match=match):
        vectors(**options).categories()


def test_attributes_without_usable_classes_are_refused(vectors, tmp_path):
    write_layer(tmp_path / "town.gpkg", kinds=[None] * 5)
    with pytest.raises(LabelError, match=r"the attribute 'kind' of .* is empty"):
        vectors(field="kind").categories()
    write_layer(tmp_path / "town.gpkg", kinds=["background", *KINDS[1:]])
    with pytest.raises(LabelError, match=r"contains 'background'.*dataset.background=false"):
        vectors(field="kind").categories()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_georeference_is_refused(vectors, tmp_path):
    write_raster(tmp_path / "town.tif", crs=None, transform=None)
    with pytest.raises(LabelError, match=r"town.tif has no georeference .* gdal_edit.py"):
        vectors().records()
