"""VRTs are read where they are named, and reach only permitted files."""

import pathlib

import numpy as np
import pytest
import rasterio

from alps.errors import ImageError
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.rasters.vrt import read_vrt
from alps.structures.tiles import Tile
from tests.geo_rasters import GRIDS, create_geo_raster, draw_bands

SOURCE = """<SimpleSource><SourceFilename relativeToVRT="{relative}">{file}</SourceFilename>
<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="96" ySize="64"/>
<DstRect xOff="{x}" yOff="0" xSize="96" ySize="64"/></SimpleSource>"""


def write_vrt(path, files, relative=1, band=""):
    """Write a VRT of three bands that shows files side by side."""
    crs, transform = GRIDS["UTM"]
    body = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}"{band}><NoDataValue>0</NoDataValue>'
        f"<Description>B0{number}</Description><Metadata><MDI key='a'>b</MDI></Metadata>"
        + "".join(
            SOURCE.format(relative=relative, file=file, band=number, x=96 * i)
            for i, file in enumerate(files)
        )
        + "</VRTRasterBand>"
        for number in (1, 2, 3)
    )
    geo = ", ".join(map(str, transform.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{96 * len(files)}" rasterYSize="64"><SRS>{crs.to_wkt()}</SRS>'
        f"<GeoTransform>{geo}</GeoTransform>{body}</VRTDataset>"
    )


@pytest.fixture
def mosaic(tmp_path):
    """A VRT of two files in a folder below its own."""
    for i in range(2):
        create_geo_raster(tmp_path / f"in/tiles/{i}.tif", draw_bands(3, seed=i))
    write_vrt(tmp_path / "in/a.vrt", ["tiles/0.tif", "tiles/1.tif"])
    return tmp_path / "in/a.vrt"


def refuse(path, message, roots=()):
    with pytest.raises(ImageError, match=message):
        Raster(path, vrt_roots=roots)


def test_a_named_vrt_is_read_as_by_gdal(mosaic):
    view = View(bands=(3, 1), limits=((0.0, 2000.0),))
    with Raster(mosaic, view, vrt_roots=()) as raster, rasterio.open(mosaic) as file:
        pixels = raster.read(Tile(50, 10, 150, 60))
        np.testing.assert_array_equal(pixels.bands, file.read([3, 1], window=((10, 60), (50, 150))))
        assert raster.georeference.transform == tuple(file.transform)[:6]
        assert [band.description for band in raster.bands] == ["B01", "B02", "B03"]


def test_a_vrt_is_not_read_unless_it_is_named(mosaic):
    with pytest.raises(ImageError, match="neither a TIFF nor a JPEG 2000 file"):
        Raster(mosaic)


def test_absolute_paths_below_the_folder_are_read(mosaic):
    write_vrt(mosaic, [mosaic.parent / "tiles/0.tif"], relative=0)
    with Raster(mosaic, vrt_roots=()) as raster:
        assert raster.read().image.any()


@pytest.mark.parametrize("way", ["..", "absolute", "link"])
def test_files_elsewhere_need_permission(tmp_path, mosaic, way):
    create_geo_raster(tmp_path / "out/secret.tif", draw_bands(3))
    name = {"..": "../out/secret.tif", "absolute": tmp_path / "out/secret.tif", "link": "b.tif"}[
        way
    ]
    if way == "link":
        pathlib.Path(mosaic.parent / "b.tif").symlink_to(tmp_path / "out/secret.tif")
    write_vrt(mosaic, [name], relative=int(way != "absolute"))
    refuse(mosaic, rf"a\.vrt: its source .*{name} is not below .*dataset\.vrt_roots=\[.*out\]")
    with Raster(mosaic, vrt_roots=[tmp_path / "out"]) as raster:
        assert raster.read().image.any()


@pytest.mark.parametrize(
    "name",
    ["http://x.y/a.tif", "/vsicurl/http://x.y/a.tif", "/vsizip/a.zip/a.tif", "<VRTDataset/>"],
)
def test_remote_sources_are_refused(mosaic, name):
    write_vrt(mosaic, [name.replace("<", "&lt;")])
    refuse(mosaic, f"its source '{name}' is not a local file; copy")


def test_nested_vrts_are_refused(mosaic):
    write_vrt(mosaic.parent / "b.vrt", ["tiles/0.tif"])
    write_vrt(mosaic, ["b.vrt"])
    refuse(mosaic, r"its source b\.vrt is neither a TIFF nor a JPEG 2000 file; name such files")


def test_a_missing_source_is_named(mosaic):
    (mosaic.parent / "tiles/1.tif").unlink()
    refuse(mosaic, r"its source tiles/1\.tif cannot be read: No such file or directory; write")


@pytest.mark.parametrize(
    "kind", ["VRTRawRasterBand", "VRTDerivedRasterBand", "VRTWarpedRasterBand"]
)
def test_raw_and_computed_bands_are_refused(mosaic, kind):
    write_vrt(mosaic, ["tiles/0.tif"], band=f' subClass="{kind}"')
    refuse(mosaic, f"it has a band of the kind {kind}; write its values into a file: gdal_transla")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<VRTDataset subClass='VRTWarpedDataset'/>", "a VRT of the kind VRTWarpedDataset"),
        ("<VRTDataset><Group name='/'/></VRTDataset>", "its element <Group> is not supported"),
        ("<VRTDataset", "it is not a valid VRT: unclosed token"),
        ("<!DOCTYPE a><VRTDataset/>", "it is not a valid VRT: DTDForbidden"),
    ],
)
def test_other_documents_are_refused(mosaic, text, message):
    mosaic.write_text(text)
    refuse(mosaic, message)


def test_gdal_does_not_see_metadata_that_can_name_files(mosaic):
    metadata = '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/x.tif</MDI></Metadata>'
    mosaic.write_text(mosaic.read_text().replace("<GeoTransform>", f"{metadata}<GeoTransform>"))
    vrt = read_vrt(mosaic)
    assert "OVERVIEW" not in vrt.xml
    assert vrt.sources == tuple(mosaic.parent / f"tiles/{i}.tif" for i in range(2))


def test_a_vrt_is_resampled(mosaic):
    with Raster(mosaic, View(rgb=(1, 2, 3), bands=(1,), gsd=1.0), vrt_roots=()) as raster:
        assert raster.size == (32, 96)
        assert raster.read(Tile(0, 0, 96, 32)).bands.any()
