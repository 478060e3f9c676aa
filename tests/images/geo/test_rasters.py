"""Collections of rasters: where they are, their windows, bands, stretch and findings."""

import json
import logging
import os
import pickle
import threading

import numpy as np
import pytest
from rasterio import Affine

from alps.errors import ConfigError, DatasetNotFound, ImageError, Unavailable
from alps.images import Rasters
from alps.images.geo import handles
from alps.images.geo.rasters import read_window
from alps.images.stored import open_store
from alps.protocols import ViewedSet
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.structures.tiles import Tile, cut_tiles
from tests.geo_rasters import GRIDS, create_geo_raster, draw_bands, serve
from tests.labelling.test_windows import label_rasters
from tests.rasters.test_vrt import write_vrt

S2 = ["B02", "B03", "B04", "B08"]


def create(root, n=2, size=(100, 150), count=3, **options):
    """Rasters with red, green and blue bands that overlap by nothing."""
    for i in range(n):
        names = options.pop("descriptions", ["red", "green", "blue", *"abcdefghij"][:count])
        create_geo_raster(
            root / f"town/{i}.tif", draw_bands(count, size, seed=i), descriptions=names, **options
        )


def kinds(images):
    return {finding.kind: finding for finding in images.findings()}


# --- where the rasters are ----------------------------------------------------------------------


def test_windows_cover_all_rasters(tmp_path):
    create(tmp_path)
    images = Rasters(root=str(tmp_path), window=64, overlap=16)
    records = images.records()
    tiles = cut_tiles((100, 150), 64, 16)
    assert [record.window for record in records] == [*tiles, *tiles]
    assert records[1].image_id == "town/0/000000_000043"
    assert [record.file_name for record in records[:: len(tiles)]] == ["town/0.tif", "town/1.tif"]
    assert records[0].bytes == (tmp_path / "town/0.tif").stat().st_size
    assert isinstance(images, ViewedSet)
    sample = images.read(records[-1])
    assert sample.size == tiles[-1].size
    assert sample.window == tiles[-1]
    assert sample.georeference.transform == tuple(GRIDS["UTM"][1])[:6]
    assert images.findings() == []


@pytest.mark.parametrize(
    ("location", "names"),
    [
        ("", ["town/0.tif", "town/1.tif"]),
        ("town/1.tif", ["1.tif"]),
        ("*/0.tif", ["town/0.tif"]),
        ("**/*.tif", ["town/0.tif", "town/1.tif"]),
        ("town/[01].tif", ["0.tif", "1.tif"]),
        ("a.vrt", ["a.vrt"]),
    ],
)
def test_rasters_are_found_by_file_folder_pattern_and_vrt(tmp_path, location, names):
    create(tmp_path, size=(64, 96))
    write_vrt(tmp_path / "a.vrt", ["town/0.tif", "town/1.tif"])
    (tmp_path / "town/notes.txt").touch()
    images = Rasters(root=str(tmp_path / location), rgb=[1, 2, 3])
    records = images.records()
    assert [record.file_name for record in records] == names
    assert (images.read(records[0]).image > 0).any()


def test_a_vrt_has_the_size_of_its_sources(tmp_path):
    """The images of a store are recognised by their sizes."""
    create(tmp_path, size=(64, 96))
    write_vrt(tmp_path / "a.vrt", ["town/0.tif", "town/1.tif"])
    (record,) = Rasters(root=str(tmp_path / "a.vrt"), rgb=[1, 2, 3]).records()
    files = [tmp_path / name for name in ("a.vrt", "town/0.tif", "town/1.tif")]
    assert record.bytes == sum(file.stat().st_size for file in files)


def test_a_vrt_reads_only_permitted_folders(tmp_path):
    create(tmp_path, size=(64, 96))
    (tmp_path / "vrt").mkdir()
    write_vrt(tmp_path / "vrt/a.vrt", ["../town/0.tif"])
    options = {"root": str(tmp_path / "vrt/a.vrt"), "rgb": [1, 2, 3]}
    with pytest.raises(DatasetNotFound, match=r"none of the 1 rasters .*dataset\.vrt_roots=\["):
        Rasters(**options).records()
    images = Rasters(**options, vrt_roots=[str(tmp_path / "town")])
    (record,) = images.records()
    view = View.from_json(images.view)
    with pytest.raises(ImageError, match=r"vrt_roots"):
        read_window(images.root, record, view)
    pixels = read_window(images.root, record, view, vrt_roots=images.vrt_roots)
    np.testing.assert_array_equal(pixels.image, images.read(record).image)
    store = label_rasters(tmp_path / "store", images, ground=16)
    stored = open_store(store.root).image(record.image_id)
    np.testing.assert_array_equal(stored, images.read(record).image)


def test_a_uri_is_read(tmp_path):
    create(tmp_path, n=1)
    with serve(tmp_path) as server:
        images = Rasters(root=f"http://127.0.0.1:{server.server_port}/town/0.tif")
        (record,) = images.records()
        assert (record.image_id, record.file_name) == ("0/000000_000000", "0.tif")
        local = Rasters(root=str(tmp_path / "town/0.tif"))
        np.testing.assert_array_equal(images.read(record).image, local.read(*local.records()).image)


def test_a_network_that_is_down_stops_instead_of_skipping():
    with pytest.raises(Unavailable, match=r"the disk or the network failed, so the run stops"):
        Rasters(root="http://127.0.0.1:1/a.tif").records()


@pytest.mark.parametrize(
    ("location", "error", "message"),
    [
        ("missing", DatasetNotFound, r"missing does not exist; set dataset\.root to a raster, a"),
        (
            "empty",
            DatasetNotFound,
            r"no rasters are in .*found 1 other files .*\(1 entries \(a\.vrt",
        ),
        ("*.jp2", DatasetNotFound, r"no rasters match .*\*\.jp2"),
        ("ftp://x/a.tif", ConfigError, "unknown scheme, expected http, https, s3, gs or az"),
        ("https://x/a.tif?key=1", ConfigError, "URI with parameters, which would be written"),
        ("stac:https://x/items.json", ConfigError, "are read from local files; download it"),
    ],
)
def test_other_locations_are_refused(tmp_path, location, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a.vrt").touch()
    is_path = "://" not in location
    with pytest.raises(error, match=message):
        Rasters(root=str(tmp_path / location) if is_path else location).records()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rgb": [1, 2]}, r"dataset\.rgb=\[1, 2\] has 2 bands, expected 3, or 1 for gray"),
        ({"rgb": [0, 1, 2]}, r"expected a list of distinct bands: numbers counted from 1 or desc"),
        ({"bands": [1, 1]}, r"dataset\.bands=\[1, 1\], expected a list of distinct bands"),
        ({"bands": []}, r"dataset\.bands=\[\], expected a list of distinct bands"),
        ({"gsd": 0.0}, r"dataset\.gsd=0\.0, expected metres above 0, or null"),
        ({"overlap": 1024}, r"dataset\.overlap=1024, expected .* less than dataset\.window=1024"),
        ({"stretch": "tile"}, r"dataset\.stretch=tile, expected collection, image, or \[minimum"),
        ({"stretch": [[5.0, 5.0]]}, r"dataset\.stretch=\[\[5\.0, 5\.0\]\], expected \[minimum"),
        ({"assets": ["B04"]}, r"has no assets; set dataset\.root=stac:FILE, or dataset\.assets=nu"),
    ],
)
def test_invalid_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        Rasters(root=str(tmp_path), **settings)


# --- bands --------------------------------------------------------------------------------------


def test_blue_does_not_become_red(tmp_path, caplog):
    create_geo_raster(tmp_path / "a.tif", draw_bands(4), descriptions=S2)
    images = Rasters(root=str(tmp_path), stretch=[[0.0, 2000.0]])
    with caplog.at_level(logging.INFO):
        (record,) = images.records()
    image = images.read(record).image
    with Raster(tmp_path / "a.tif", View(rgb=(3, 2, 1), limits=((0.0, 2000.0),))) as raster:
        np.testing.assert_array_equal(image, raster.read().image)
    assert images.view["rgb"] == ("B04", "B03", "B02")
    assert "red, green and blue are the bands [B04,B03,B02], from the band desc" in caplog.text


def test_bands_are_found_by_name_in_each_file(tmp_path):
    bands = draw_bands(4)
    create_geo_raster(tmp_path / "a.tif", bands, descriptions=S2)
    create_geo_raster(tmp_path / "b.tif", bands[::-1], descriptions=S2[::-1])
    images = Rasters(root=str(tmp_path), bands=["b08", "B02"])
    first, second = map(images.read, images.records())
    np.testing.assert_array_equal(first.bands, bands[[3, 0]])
    np.testing.assert_array_equal(second.bands, bands[[3, 0]])
    np.testing.assert_array_equal(first.image, second.image)
    assert images.band_names == ("B08", "B02")
    assert Rasters(root=str(tmp_path), bands=[4]).band_names == ("B08",)
    assert Rasters(root=str(tmp_path)).band_names is None


def test_a_raster_without_the_bands_is_skipped_and_counted(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(4), descriptions=S2)
    create_geo_raster(tmp_path / "b.tif", draw_bands(3), descriptions=S2[:2] + S2[3:])
    images = Rasters(root=str(tmp_path))
    assert [record.file_name for record in images.records()] == ["a.tif"]
    finding = kinds(images)["rasters_without_bands"]
    assert str(finding).startswith(
        "1 of 2 rasters lack a band and are skipped (first: b.tif: it has no band 'B04'; its bands"
    )


def test_the_first_raster_must_have_the_bands(tmp_path):
    create(tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"town/0\.tif: it has no band 'B08'; its bands: 1 red .*; set dataset\.rg",
    ):
        Rasters(root=str(tmp_path), bands=["B08"]).records()


def test_bands_that_say_nothing_are_listed(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(4))
    with pytest.raises(
        ConfigError,
        match=r"a\.tif: it does not say which .*: 1 \(gray, uint16\), 2 .*dataset\.rgb=\[3,2,1\]",
    ):
        Rasters(root=str(tmp_path)).records()


def test_an_uncertain_guess_is_a_finding_and_holds_for_equal_files(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(3, dtype=np.uint8))
    create_geo_raster(tmp_path / "b.tif", draw_bands(1, dtype=np.uint8))
    images = Rasters(root=str(tmp_path))
    assert [record.file_name for record in images.records()] == ["a.tif"]
    findings = kinds(images)
    assert "confirm them with dataset.rgb=[1,2,3]" in str(findings["guessed_rgb"])
    assert "it has 1 bands without alpha, and the first raster has 3" in str(
        findings["rasters_without_bands"]
    )


# --- stretch ------------------------------------------------------------------------------------


def test_the_same_ground_in_two_rasters_gets_the_same_values(tmp_path):
    """Each raster alone would be stretched differently, since one of them has clouds."""
    ground = draw_bands(3, (128, 128))
    clouds = np.concatenate([ground, ground + 4000], axis=1)
    names = ["red", "green", "blue"]
    create_geo_raster(tmp_path / "a.tif", ground, descriptions=names)
    create_geo_raster(tmp_path / "b.tif", clouds, descriptions=names)

    def difference(stretch):
        images = Rasters(root=str(tmp_path), stretch=stretch)
        a, b = (images.read(record).image for record in images.records())
        return np.abs(a.astype(int) - b[:128]).max()

    assert difference("collection") == 0
    assert difference("image") > 50


def test_limits_are_percentiles_of_each_band(tmp_path):
    bands = draw_bands(3, (200, 220), np.float32)
    bands[:, :60] = -9999
    names = ["red", "green", "blue"]
    create_geo_raster(tmp_path / "a.tif", bands, descriptions=names, nodata=-9999)
    limits = Rasters(root=str(tmp_path)).view["limits"]
    expected = np.percentile(bands[:, 60:].reshape(3, -1), (0.5, 99.5), axis=1).T
    np.testing.assert_allclose(limits, expected, rtol=1e-6)


def test_the_sample_is_spread_over_large_and_mostly_empty_rasters(tmp_path):
    bands = np.zeros((3, 1500, 1700), np.uint16)
    bands[:, 600:] = np.arange(1, 901)[:, None]  # values by row, below 40 % of nothing
    names = ["red", "green", "blue"]
    create_geo_raster(tmp_path / "a.tif", bands, descriptions=names, nodata=0)
    low, high = Rasters(root=str(tmp_path)).view["limits"][0]
    assert low < 60
    assert high > 840


def test_8_bit_rasters_are_kept(tmp_path):
    bands = draw_bands(3, dtype=np.uint8)
    create_geo_raster(tmp_path / "a.tif", bands, photometric="RGB")
    for stretch in ("collection", "image"):
        images = Rasters(root=str(tmp_path), stretch=stretch)
        (record,) = images.records()
        np.testing.assert_array_equal(images.read(record).image, bands.transpose(1, 2, 0))
    assert "limits" not in images.view


def test_a_view_is_resolved_once_and_read_by_other_processes(tmp_path, monkeypatch):
    create(tmp_path)
    images = Rasters(root=str(tmp_path), bands=[1], gsd=1.0)
    view, records = images.view, images.records()
    copy = pickle.loads(pickle.dumps(images))
    monkeypatch.setattr("alps.images.geo.rasters.collection_limits", None)
    assert copy.view == view
    assert json.loads(json.dumps(view)) == json.loads(json.dumps(copy.view))
    stored = View.from_json(json.loads(json.dumps(view)))
    for record in records:
        pixels = read_window(images.root, record, stored)
        np.testing.assert_array_equal(pixels.image, copy.read(record).image)
        np.testing.assert_array_equal(pixels.bands, copy.read(record).bands)


# --- resolution and findings --------------------------------------------------------------------


def test_all_rasters_are_read_at_one_resolution(tmp_path):
    names = ["red", "green", "blue"]
    for name, side in (("a", 0.5), ("b", 0.25)):
        transform = Affine(side, 0, 5e5, 0, -side, 4e6)
        size = (int(50 / side), int(60 / side))
        create_geo_raster(
            tmp_path / f"{name}.tif", draw_bands(3, size), descriptions=names, transform=transform
        )
    images = Rasters(root=str(tmp_path))
    finding = kinds(images)["other_gsd"]
    assert finding.message == (
        "1 of 2 rasters have another ground sampling distance than the first (first: b.tif: 0.25 "
        "m, a.tif: 0.5 m)"
    )
    assert finding.remedy.startswith("set dataset.gsd to resample all of them to one")
    images = Rasters(root=str(tmp_path), gsd=1.0)
    assert [record.window for record in images.records()] == [Tile(0, 0, 60, 50)] * 2
    assert images.findings() == []
    transforms = {images.read(record).georeference.transform for record in images.records()}
    assert transforms == {(1.0, 0.0, 5e5, 0.0, -1.0, 4e6)}


def test_differences_are_findings(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(3))
    create_geo_raster(tmp_path / "b.tif", draw_bands(4, dtype=np.float32), "geographic")
    create_geo_raster(tmp_path / "c.tif", draw_bands(3), crs=None)
    (tmp_path / "d.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:60])
    images = Rasters(root=str(tmp_path), rgb=[1, 2, 3])
    assert len(images.records()) == 3
    findings = kinds(images)
    assert [*findings] == ["unreadable_rasters", "other_gsd", "other_bands", "other_crs", "no_crs"]
    assert "1 of 4 rasters cannot be opened and are skipped (first: cannot read" in str(
        findings["unreadable_rasters"]
    )
    assert "(first: b.tif: 4 float32, a.tif: 3 uint16)" in str(findings["other_bands"])
    assert "1 of 3 rasters have no coordinate reference system (first: c.tif); add it" in str(
        findings["no_crs"]
    )
    assert str(tmp_path) not in "".join(map(str, findings.values()))


# --- open files ---------------------------------------------------------------------------------


def test_few_rasters_stay_open_and_changed_ones_are_opened_again(tmp_path):
    create(tmp_path, n=handles.MAX_OPEN + 2, size=(40, 50))
    images = Rasters(root=str(tmp_path), stretch=[[0.0, 2000.0]])
    records = images.records()
    for record in records:
        images.read(record)
    assert len(handles._handles.rasters) == handles.MAX_OPEN
    before = images.read(records[-1]).image
    path = tmp_path / records[-1].file_name
    create_geo_raster(path, draw_bands(3, (40, 50), seed=99), descriptions=["red", "green", "blue"])
    os.utime(path, ns=(1, 1))
    assert (images.read(records[-1]).image != before).any()


def test_threads_and_forked_processes_open_their_own_files(tmp_path):
    create(tmp_path, n=1)
    images = Rasters(root=str(tmp_path))
    (record,) = images.records()
    expected = images.read(record).image
    mine = handles._handles.rasters
    results = []
    thread = threading.Thread(
        target=lambda: results.append((images.read(record).image, handles._handles.rasters))
    )
    thread.start()
    thread.join()
    image, theirs = results[0]
    np.testing.assert_array_equal(image, expected)
    assert theirs is not mine
    handles._handles.process = -1  # as after a fork
    np.testing.assert_array_equal(images.read(record).image, expected)
    assert handles._handles.rasters is not mine
