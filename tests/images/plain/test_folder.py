import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from alps.errors import ConfigError, DatasetNotFound
from alps.images.files.listing import walk
from alps.images.plain.folder import Folder
from alps.protocols import ImageSet
from alps.structures.records import ImageRecord
from tests.factories import create_image, create_images


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def listed(root):
    return [record.file_name for record in Folder(str(root), "mine").records()]


def test_it_is_an_image_set(tmp_path):
    images = Folder(str(tmp_path), "mine", split="val")
    assert isinstance(images, ImageSet)
    written = [create_image(path) for path in create_images(tmp_path / "deep/er", 2)]
    records = images.records()
    size = (tmp_path / "deep/er/image_0.png").stat().st_size
    assert records[0] == ImageRecord("deep/er/image_0", "deep/er/image_0.png", "val", size)
    sample = images.read(records[1])
    assert sample.image_id == "deep/er/image_1"
    np.testing.assert_array_equal(sample.image, written[1])


def test_images_at_any_depth_are_sorted_and_suffixes_match_in_any_case(tmp_path):
    names = ["b.PNG", "a/z.Tif", "a/b/c.jpeg", "a.webp", "c.bmp", "a-b/d.JPG", "e.tiff"]
    touch(tmp_path, *names, "notes.txt", "no_suffix")
    assert listed(tmp_path) == sorted(names)


def test_ids_are_unique_without_regard_to_suffix(tmp_path):
    touch(tmp_path, "OSBS.png", "OSBS.tif", "SOAP.png")
    ids = [record.image_id for record in Folder(str(tmp_path), "mine").records()]
    assert ids == ["OSBS.png", "OSBS.tif", "SOAP"]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    touch(tmp_path, "a.png", ".b.png", ".cache/c.png", "d/.e/f.png", "._a.png")
    assert listed(tmp_path) == ["a.png"]


def test_links_are_followed_and_cycles_are_not(tmp_path):
    touch(tmp_path / "elsewhere", "x.png", "sub/y.png")
    touch(tmp_path / "root", "a/b.png")
    (tmp_path / "root/file.png").symlink_to(tmp_path / "elsewhere/x.png")
    (tmp_path / "root/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/a/self").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/ring.png").symlink_to(tmp_path / "root/ring.png")
    (tmp_path / "root/broken.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    expected = ["a/b.png", "file.png", "folder/sub/y.png", "folder/x.png"]
    assert listed(tmp_path / "root") == expected
    assert listed(tmp_path / "link") == expected


def test_two_links_to_one_folder_give_two_names(tmp_path):
    touch(tmp_path / "elsewhere", "x.png", "more/y.png")
    (tmp_path / "root").mkdir()
    for name in ("b", "a"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "root") == ["a/more/y.png", "a/x.png", "b/more/y.png", "b/x.png"]


def test_a_link_below_two_names_is_followed_below_the_first(tmp_path):
    touch(tmp_path / "elsewhere", "x.png")
    touch(tmp_path / "far", "y.png")
    (tmp_path / "elsewhere/on").symlink_to(tmp_path / "far")
    (tmp_path / "root").mkdir()
    for name in ("b", "a"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "root") == ["a/on/y.png", "a/x.png", "b/x.png"]


@pytest.mark.parametrize("n", [2, 5, 20])
def test_folders_that_link_to_each_other_are_listed_in_finite_time(tmp_path, n):
    touch(tmp_path, *(f"{i}/a.png" for i in range(n)))
    for i in range(n):
        for j in range(n):
            if i != j:
                (tmp_path / f"{i}/{j}").symlink_to(tmp_path / f"{j}")
    paths = [path for path, _ in walk(tmp_path)]
    assert len(paths) == len(set(paths))
    assert {f"{i}/a.png" for i in range(n)} < set(paths)
    assert len(paths) <= n + n * (n - 1)  # a file, by its folder and by each link


def test_deeply_nested_folders_are_listed(tmp_path, monkeypatch):
    """More of them than Python has room for calls."""
    n = sys.getrecursionlimit() + 100
    monkeypatch.chdir(tmp_path)
    for _ in range(n):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.png").touch()
    monkeypatch.chdir(tmp_path)
    try:
        assert listed(tmp_path) == ["d/" * n + "a.png"]
    finally:  # pytest's own way to remove a folder goes down them one by one, and fails
        for _ in range(n):
            os.chdir("d")
        Path("a.png").unlink()
        for _ in range(n):
            os.chdir("..")
            Path("d").rmdir()


def test_names_too_long_for_their_label_are_skipped(tmp_path, caplog):
    """These two keep their suffix, for they share the rest: <id>.png has 256 bytes."""
    long = "ö" * 124
    touch(tmp_path, f"{long}.png", f"{long}.tif", f"{'x' * 251}.png", "a.png", "a.tif")
    with caplog.at_level(logging.WARNING):
        assert listed(tmp_path) == ["a.png", "a.tif", f"{'x' * 251}.png"]
    assert "2 of 5 images" in caplog.text
    assert "are too long for the name of the label file (first: '\\xf6" in caplog.text


def test_folders_named_like_images_are_folders(tmp_path):
    touch(tmp_path, "a.png/b.jpg")
    assert listed(tmp_path) == ["a.png/b.jpg"]


def test_the_error_names_the_other_files(tmp_path):
    touch(tmp_path, *(f"{i}.txt" for i in range(8)), "a.xml", "b.XML", "c.xml", "README")
    with pytest.raises(DatasetNotFound) as error:
        listed(tmp_path)
    assert f"no images under {tmp_path}: found 12 other files (.txt .xml without suffix)" in str(
        error.value
    )
    assert ".png .tif .tiff .webp" in str(error.value)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DatasetNotFound, match="found 0 other files and 0 images"):
        listed(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_the_root_must_be_a_folder(tmp_path, monkeypatch, kind):
    touch(tmp_path, "file")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DatasetNotFound, match=rf"{tmp_path}/{kind} is not a folder; .*dataset\.root"
    ):
        listed(Path(kind))


def test_an_unlistable_folder_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "a/b.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetNotFound, match=r"cannot list .*Permission denied: '.*/a'"):
        listed(tmp_path)


def test_names_that_cannot_be_stored_are_counted_and_skipped(tmp_path, caplog):
    touch(tmp_path, "good.png", "back\\slash.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.png")).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert listed(tmp_path) == ["good.png"]
    assert "2 of 3 images" in caplog.text
    assert "slash.png'); rename them" in caplog.text
    (tmp_path / "good.png").unlink()
    with pytest.raises(DatasetNotFound, match="2 images with names that cannot be stored"):
        listed(tmp_path)


def test_paths_that_differ_only_in_case_are_refused(tmp_path):
    touch(tmp_path, "a.png", "A.png")
    if len(list(tmp_path.iterdir())) == 2:  # the disk tells them apart
        with pytest.raises(ConfigError, match=r"'A\.png' and 'a\.png'"):
            listed(tmp_path)
