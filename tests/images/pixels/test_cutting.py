import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from alps.errors import ConfigError, DatasetNotFound, ImageError, LabelError
from alps.images.files.labels import read_labels
from alps.images.pixels import cutting
from alps.images.pixels.cutting import LabelledRaster, Tiles, tile_grid
from tests.factories import create_folder_pair, create_image


def make(root, **options):
    """Three rasters of 64 × 96 pixels and where their tiles go."""
    if not root.exists():
        create_folder_pair(root / "raw", splits=("train", "val"), n=1)
        create_folder_pair(root / "more", splits=("val",), n=1, size=(30, 40))
    names = {"a": "raw/{}/train/0", "b": "raw/{}/val/0", "c": "more/{}/val/0"}
    rasters = [
        LabelledRaster(
            name,
            path.split("/")[2],
            root / f"{path.format('img_dir')}.jpg",
            root / f"{path.format('ann_dir')}.png",
        )
        for name, path in names.items()
    ]
    settings = {
        "root": root,
        "folder": "tiles",
        "tile_size": 40,
        "stride": 30,
        "tile_name": lambda name, tile: f"{name}_{tile.x0}_{tile.y0}",
        "read_label": read_labels,
        "colors": [(i, i, i) for i in range(4)],
    }
    return Tiles(**{**settings, **options}), rasters


def test_tiles_hold_the_pixels_of_their_windows(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    tiles.cut(rasters)
    records = {record.image_id: record for record in tiles.records()}
    for raster in rasters[:2]:
        image = cutting.read_pixels(raster.image).image
        labels = read_labels(raster.label)
        for x in (0, 30, 56):
            for y in (0, 24):
                record = records.pop(f"{raster.name}_{x}_{y}")
                window = np.s_[y : y + 40, x : x + 40]
                np.testing.assert_array_equal(tiles.read(record).image, image[window])
                np.testing.assert_array_equal(tiles.read_target(record), labels[window])
                assert record.split == raster.split
                assert record.file_name == f"tiles/img_dir/{raster.split}/{record.image_id}.png"
                assert record.bytes == (tiles.root / record.file_name).stat().st_size
    assert list(records) == ["c_0_0"]


def test_small_images_are_padded_and_the_padding_is_ignored(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    tiles.cut(rasters[2:])
    [record] = tiles.records()
    image, target = tiles.read(record).image, tiles.read_target(record)
    assert target.shape == image.shape[:2] == (40, 40)
    np.testing.assert_array_equal(target[:30], read_labels(rasters[2].label))
    assert not image[30:].any()
    assert (target[30:] == 255).all()
    np.testing.assert_array_equal(np.arange(40) < 30, tiles.read(record).valid.all(1))


def test_padding_is_transparent_and_other_readers_get_three_bands(tmp_path):
    """mmcv, which mmsegmentation reads with, asks OpenCV for colours; older tiles have no alpha."""
    tiles, rasters = make(tmp_path / "x")
    tiles.cut(rasters)
    for record in tiles.records():
        path = tiles.root / record.file_name
        padded = record.image_id == "c_0_0"
        with Image.open(path) as image:
            assert image.mode == ("RGBA" if padded else "RGB")
            rgb = np.asarray(image)[..., :3]
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(bgr[..., ::-1], rgb)
        assert (tiles.read(record).valid is None) != padded
        Image.fromarray(rgb).save(path)
        before = tiles.read(record)
        assert before.valid is None
        np.testing.assert_array_equal(before.image, rgb)


def test_nodata_of_a_raster_is_nodata_of_its_tiles(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    with Image.open(rasters[1].image) as image:
        rgba = np.dstack([np.asarray(image), np.full((64, 96), 255, np.uint8)])
    rgba[:, :50, 3] = 0
    path = rasters[1].image.with_suffix(".png")
    Image.fromarray(rgba).save(path)
    tiles.cut([replace(rasters[1], image=path)])
    expected = {"b_0_0": 0, "b_30_0": 40 * 20, "b_56_0": 40 * 40}
    for record in tiles.records()[:3]:
        sample, target = tiles.read(record), tiles.read_target(record)
        valid = np.ones(sample.size, bool) if sample.valid is None else sample.valid
        assert valid.sum() == expected[record.image_id]
        assert not sample.image[~valid].any()
        assert (target[~valid] == 255).all()
        assert (target[valid] != 255).all()


def test_tiles_are_cut_once_and_need_no_rasters_afterwards(tmp_path, monkeypatch):
    tiles, rasters = make(tmp_path / "x")
    tiles.cut(rasters)
    records = tiles.records()
    monkeypatch.setattr(cutting, "read_pixels", None)
    tiles.cut(rasters)
    for raster in rasters:
        raster.image.unlink()
    assert tiles.records() == records


def test_interrupted_cutting_resumes(tmp_path, monkeypatch):
    whole, rasters = make(tmp_path / "whole")
    whole.cut(rasters)
    tiles, rasters = make(tmp_path / "x")
    read = cutting.read_pixels
    monkeypatch.setattr(cutting.os, "cpu_count", lambda: 1)  # in order

    def stop(path):
        if path == rasters[0].image:
            return read(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(cutting, "read_pixels", stop)
    with pytest.raises(KeyboardInterrupt):
        tiles.cut(rasters)
    assert {record.image_id[0] for record in tiles.records()} == {"a"}
    cut = []
    monkeypatch.setattr(cutting, "read_pixels", lambda path: cut.append(path) or read(path))
    tiles.cut(rasters)
    assert sorted(cut) == sorted([rasters[1].image, rasters[2].image])
    assert tiles.records() == whole.records()
    files = {p.relative_to(tiles.path): p.read_bytes() for p in tiles.path.rglob("*.png")}
    expected = {p.relative_to(whole.path): p.read_bytes() for p in whole.path.rglob("*.png")}
    assert files == expected


def cut_anew(tiles, rasters, monkeypatch):
    """The names of the rasters that are cut."""
    cut = []
    with monkeypatch.context() as patch:
        read = cutting.read_pixels
        patch.setattr(cutting, "read_pixels", lambda path: cut.append(path) or read(path))
        tiles.cut(rasters)
    return sorted(r.name for r in rasters if r.image in cut)


def test_a_raster_is_cut_again_if_it_or_its_label_has_changed(tmp_path, monkeypatch):
    tiles, rasters = make(tmp_path / "x")
    tiles.cut(rasters)
    for path in (rasters[0].image, rasters[0].label):
        path.touch()
    assert cut_anew(tiles, rasters, monkeypatch) == []
    labels = np.array(Image.open(rasters[0].label))
    labels[0, :3] = labels[0, 2::-1]
    Image.fromarray(labels).save(rasters[0].label)
    data = rasters[1].image.read_bytes()
    rasters[1].image.write_bytes(data[:-3] + b"\0" + data[-2:])
    assert cut_anew(tiles, rasters, monkeypatch) == ["a", "b"]
    target = tiles.read_target(next(r for r in tiles.records() if r.image_id == "a_0_0"))
    np.testing.assert_array_equal(target, labels[:40, :40])
    assert cut_anew(tiles, rasters, monkeypatch) == []


def test_tiles_of_an_earlier_version_are_kept_except_tiff_and_padded_ones(tmp_path, monkeypatch):
    tiles, rasters = make(tmp_path / "x")
    create_image(tmp_path / "x/t.tif", (64, 96))
    rasters[1] = replace(rasters[1], image=tmp_path / "x/t.tif")
    tiles.cut(rasters)
    for mark in (tiles.path / "cut").glob("*.json"):
        done = json.loads(mark.read_text())
        del done["sources"]
        mark.write_text(json.dumps(done))
    assert cut_anew(tiles, rasters, monkeypatch) == ["b", "c"]


def read_and_count(path):
    with Path(f"{path}.read").open("a") as file:
        file.write("x")
    return read_labels(path)


def cut_in_a_process(root):
    tiles, rasters = make(root, read_label=read_and_count)
    tiles.cut(rasters)


def test_two_processes_cut_once(tmp_path):
    _, rasters = make(tmp_path / "x")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=cut_in_a_process, args=(tmp_path / "x",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert [Path(f"{r.label}.read").read_text() for r in rasters] == ["x", "x", "x"]


def test_a_label_of_another_size_is_an_error(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    create_image(rasters[0].image, (64, 95))
    with pytest.raises(
        LabelError, match=r"train/0.png has 64 x 96 pixels, and its image .*0.jpg 64 x 95, expected"
    ):
        tiles.cut(rasters)


def test_an_unreadable_image_is_an_error(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    rasters[1].image.write_bytes(b"")
    with pytest.raises(ImageError, match=r"cannot read .*val/0.jpg: the file is empty"):
        tiles.cut(rasters)


def test_an_unwritable_folder_is_an_error(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    (tmp_path / "x/tiles").write_text("in the way")
    with pytest.raises(DatasetNotFound, match=r"cannot write tiles to .*x/tiles: .*dataset\.root"):
        tiles.cut(rasters)


@pytest.mark.parametrize("stride", [0, -1, 41])
def test_strides_that_leave_gaps_are_refused(tmp_path, stride):
    with pytest.raises(ConfigError, match=rf"tiles of 40 px every {stride} px: expected a stride"):
        make(tmp_path / "x", stride=stride)


def test_the_index_lists_every_tile(tmp_path):
    tiles, rasters = make(tmp_path / "x")
    tiles.cut(rasters[:1])
    done = json.loads((tiles.path / "cut/a.json").read_text())
    assert done["split"] == "train"
    assert list(done["tiles"]) == [f"a_{x}_{y}" for y in (0, 24) for x in (0, 30, 56)]


@pytest.mark.parametrize("length", [512, 513, 800, 1024, 6000])
def test_every_pixel_lies_in_a_tile_of_full_size(length):
    seen = np.zeros((512, length), bool)
    for tile in tile_grid((512, length), 512, 256):
        assert tile.size == (512, 512)
        seen[tile.y0 : tile.y1, tile.x0 : tile.x1] = True
    assert seen.all()


def test_the_published_numbers_of_tiles():
    """3,456 training and 2,016 validation tiles of Potsdam: 144 of each image."""
    assert len(tile_grid((6000, 6000), 512, 512)) == 144
    assert 24 * 144 == 3456
    assert 14 * 144 == 2016
