"""What all layouts have in common, and the command."""

import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from alps.errors import StoreError
from alps.export import LAYOUTS, export_store
from alps.export.__main__ import main
from alps.rasters.formats import VECTORS
from alps.store.shards import Shard
from tests.export.stores import boxed_store, files, pseudo_store, video_store

#: They need georeferenced images: tests/export/test_gis_export.py.
GIS = {"cog", *VECTORS}
PLAIN = sorted(LAYOUTS.keys() - GIS)
#: A clip is held as a whole in the one, and the other reads images: each has a test of its own.
BY_SHARD = sorted(LAYOUTS.keys() - GIS - {"youtube_vis", "overlay"})
#: x264 does not end with the same bytes each time.
EXACT = sorted(LAYOUTS.keys() - GIS - {"overlay"})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return boxed_store(tmp_path_factory.mktemp("store"))


def make_store(layout):
    return boxed_store if layout in BY_SHARD else video_store


@pytest.mark.parametrize("layout", EXACT)
def test_exports_do_not_depend_on_shards(layout, tmp_path):
    store = make_store(layout)(tmp_path / "store")
    shards = make_store(layout)(tmp_path / "shards", shard_size=1)
    for out, source in (("once", store), ("twice", store), ("shards", shards)):
        export_store(source, layout, tmp_path / "out" / out)
    once = files(tmp_path / "out/once")
    assert once
    assert files(tmp_path / "out/twice") == once
    assert files(tmp_path / "out/shards") == once
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"once", "twice", "shards"}


@pytest.mark.parametrize("layout", PLAIN)
def test_an_export_does_not_change_the_store(layout, tmp_path):
    store = make_store(layout)(tmp_path / "store")
    before = files(store.root)
    export_store(store, layout, tmp_path / "out")
    assert files(store.root) == before


@pytest.mark.parametrize("layout", BY_SHARD)
def test_shards_are_read_one_by_one(layout, tmp_path, monkeypatch):
    store = pseudo_store(tmp_path / "store", n=9)
    read_masks, alive = Shard.masks, []

    def masks(self):
        assert all(reference() is None for reference in alive[:-1]), "an earlier shard is held"
        found = read_masks(self)
        alive.append(weakref.ref(next(iter(found.values())).area))
        return found

    monkeypatch.setattr(Shard, "masks", masks)
    export_store(store, layout, tmp_path / "out")
    assert len(alive) == 5


def test_a_failed_export_leaves_nothing(store, tmp_path, monkeypatch):
    def full(store, folder):
        (folder / "half.json").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alps.export.layouts.LAYOUTS", {"coco": full})
    with pytest.raises(
        StoreError, match=r"cannot write .*/out: No space left on device; free disk space or"
    ):
        export_store(store, "coco", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_killed_export_are_removed(store, tmp_path):
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished/half.json").write_text("{")
    export_store(store, "coco", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "half.json" not in files(tmp_path / "out")


def test_the_command_prints_what_was_written_and_skipped(store, tmp_path, capsys):
    main([str(store.root), "--to", "samrs", "--out", str(tmp_path / "new/out")])
    out, err = capsys.readouterr()
    assert out == f"4 images, 5 masks in {tmp_path}/new/out\nskipped: 1 empty, 1 ignored\n"
    assert "5/5" in err
    assert "image/s" in err


def test_the_command_counts_videos_and_reads_moved_images(tmp_path, capsys):
    store = video_store(tmp_path / "store")
    (tmp_path / "store_frames").rename(tmp_path / "moved")
    words = [str(store.root), "--out", str(tmp_path / "tracks"), "--to", "youtube_vis"]
    main(words)
    counted = "6 images, 7 masks, 3 tracks, 1 masks without a track, 2 videos"
    assert capsys.readouterr().out == f"{counted} in {tmp_path}/tracks\nskipped: 2 empty\n"
    words = [str(store.root), "--out", str(tmp_path / "drawn"), "--to", "overlay"]
    with pytest.raises(SystemExit):
        main(words)
    assert "pass their folder as --images" in capsys.readouterr().err
    main([*words, "--images", str(tmp_path / "moved")])
    assert capsys.readouterr().out == f"6 images, 9 masks, 2 videos in {tmp_path}/drawn\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "voc", "--out", "new"], "there is no layout 'voc'; choose one of coco, sa1b, s"),
        (["--to", "coco", "--out", "full"], "full is not empty; export into a new folder, or del"),
        (
            ["--to", "coco", "--out", "full/x"],
            "full/x: Not a directory; free disk space or fix the permissions",
        ),
    ],
)
def test_errors_are_one_line(words, message, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("kept")
    with pytest.raises(SystemExit) as stop:
        main([str(store.root), *words])
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert files(tmp_path) == {"full/x": b"kept"}


def test_an_unfinished_store_is_refused(tmp_path, capsys):
    boxed_store(tmp_path / "store", finished=False)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "store"), "--to", "coco", "--out", str(tmp_path / "out")])
    assert "is not finished (manifest.json is missing); run the same label.py command" in (
        capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none"), "--to", "coco", "--out", str(tmp_path / "out")])
    assert f"no label store at {tmp_path / 'none'} (store.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_package_runs_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "alps.export", "--help"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    for layout in LAYOUTS:
        assert re.search(rf"^  {layout}\s", result.stdout, re.MULTILINE)
