"""Rasters behind URIs, read by range requests from a local server."""

from pathlib import Path

import numpy as np
import pytest

from alps.errors import ImageError, Unavailable
from alps.labelling.image_stages import refuse_unavailable
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.structures.tiles import Tile
from tests.geo_rasters import create_geo_raster, draw_bands, serve

TILE = Tile(300, 200, 400, 300)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a.tif, without pauses between retries."""
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128}
    create_geo_raster(tmp_path / "town/a.tif", draw_bands(3, (512, 512)), **options)
    (tmp_path / "town/page.tif").write_text("<html>not a raster</html>" * 100)
    with serve(tmp_path) as server:
        yield server


def uri(server, name):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def stops(error):
    """Return whether labelling stops, so that it can be resumed, instead of skipping the image."""
    try:
        refuse_unavailable(error, Path("http://127.0.0.1/town"))
    except Unavailable:
        return True
    return False


def test_http_is_read_by_windows(server, tmp_path):
    view = View(rgb=(1, 2, 3), bands=(3, 1), limits=((0.0, 2000.0),))
    with (
        Raster(uri(server, "town/a.tif"), view) as remote,
        Raster(tmp_path / "town/a.tif", view) as local,
    ):
        assert remote.georeference == local.georeference
        np.testing.assert_array_equal(remote.read(TILE).bands, local.read(TILE).bands)
        np.testing.assert_array_equal(remote.read(TILE).image, local.read(TILE).image)
    assert {*server.requests} == {"/town/a.tif"}  # no sidecar files, no listings


def test_s3_is_read_without_credentials(server, tmp_path, monkeypatch):
    for name, value in {
        "AWS_S3_ENDPOINT": f"127.0.0.1:{server.server_port}",
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }.items():
        monkeypatch.setenv(name, value)
    with Raster("s3://town/a.tif") as remote, Raster(tmp_path / "town/a.tif") as local:
        np.testing.assert_array_equal(remote.read(TILE).image, local.read(TILE).image)


@pytest.mark.parametrize(
    ("name", "status", "message", "network"),
    [
        ("town/b.tif", None, r"cannot read http://.*/town/b\.tif: HTTP response code: 404", False),
        ("town/c.tif", 403, r"HTTP response code: 403; set the credentials in GDAL's env", False),
        ("town/page.tif", None, "not recognized as being in a supported file format", False),
        ("town/d.tif", 503, "HTTP response code: 503", True),
        ("town/e.tif", 429, "HTTP response code: 429", True),
    ],
)
def test_errors_of_one_file_differ_from_those_of_the_network(
    server, name, status, message, network
):
    server.status = status
    with pytest.raises(ImageError, match=message) as raised:
        Raster(uri(server, name))
    assert stops(raised.value) == network


def test_a_network_that_fails_between_windows_stops_the_run(server):
    with Raster(uri(server, "town/a.tif"), View(rgb=(1,), limits=((0.0, 9.0),))) as raster:
        server.status = 500
        with pytest.raises(ImageError, match="cannot read http://") as raised:
            raster.read(TILE)
    assert stops(raised.value)


def test_a_server_that_fails_for_a_moment_is_asked_again(server):
    """GDAL would remember that there is no such file."""
    server.status = 503
    for _ in range(2):
        with pytest.raises(ImageError, match="HTTP response code: 503") as raised:
            Raster(uri(server, "town/a.tif"))
        assert stops(raised.value)
    server.status = None
    with Raster(uri(server, "town/a.tif")) as raster:
        assert raster.read(TILE).image.any()


def test_a_server_that_is_down_stops_the_run():
    with pytest.raises(ImageError, match=r"cannot read .*: CURL error: .*connect") as raised:
        Raster("http://127.0.0.1:1/a.tif")
    assert stops(raised.value)


def test_parameters_of_a_uri_are_not_quoted(server):
    with pytest.raises(ImageError) as raised:
        Raster(uri(server, "town/page.tif?signature=secret"))
    assert "secret" not in str(raised.value)
