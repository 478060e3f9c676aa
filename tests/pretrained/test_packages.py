import hashlib
import io
import os
import random
import tarfile
import zipfile

import pytest

from alps.pretrained import packages
from alps.pretrained.packages import Package, PackageError, fetch_members

BIG = random.Random(0).randbytes(3 << 20)
FILES = {"tiny/data.bin": BIG, "tiny/other.txt": b"other", "tiny/../../escape.txt": b"escaped"}
WHEEL = {
    "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": b"",
}
# A build backend of its own, so that pip needs nothing from an index.
SDIST = {
    "tiny-1.0/PKG-INFO": WHEEL["tiny-1.0.dist-info/METADATA"],
    "tiny-1.0/pyproject.toml": b"[build-system]\nrequires = []\nbuild-backend = 'backend'\n"
    b"backend-path = ['.']\n",
    "tiny-1.0/backend.py": b"import pathlib\n"
    b"def prepare_metadata_for_build_wheel(folder, config_settings=None):\n"
    b"    target = pathlib.Path(folder, 'tiny-1.0.dist-info')\n"
    b"    target.mkdir()\n"
    b"    target.joinpath('METADATA').write_text(pathlib.Path('PKG-INFO').read_text())\n"
    b"    return target.name\n",
}


def write_wheel(path, files):
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


def write_sdist(path, files, **links):
    with tarfile.open(path, "w:gz") as sdist:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            sdist.addfile(member, io.BytesIO(content))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            sdist.addfile(member)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the index, with a wheel and an sdist of the same package."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder / "tiny-1.0-py3-none-any.whl", WHEEL | FILES)
    inside = {f"tiny-1.0/{name}": content for name, content in FILES.items() if ".." not in name}
    write_sdist(folder / "tiny-1.0.tar.gz", SDIST | inside)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def package(path, kind, version="1.0"):
    return Package("tiny", version, kind, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("kind", "file", "prefix"),
    [("wheel", "tiny-1.0-py3-none-any.whl", ""), ("sdist", "tiny-1.0.tar.gz", "tiny-1.0/")],
)
def test_the_files_asked_for_and_no_others(index, tmp_path, kind, file, prefix):
    target = tmp_path / "deep/er"
    members = {f"{prefix}tiny/data.bin": target / "a.bin", f"{prefix}tiny/other.txt": target / "b"}
    fetch_members(package(index / file, kind), members)
    assert (target / "a.bin").read_bytes() == BIG
    assert (target / "b").read_bytes() == b"other"
    assert sorted(p.name for p in target.iterdir()) == ["a.bin", "b"]


def test_the_checksum_must_fit(index, tmp_path):
    wrong = Package("tiny", "1.0", "wheel", "0" * 64)
    with pytest.raises(PackageError, match=r"pip cannot download tiny==1\.0: .*(HASH|hash)"):
        fetch_members(wrong, {"tiny/data.bin": tmp_path / "out/a"})
    assert not (tmp_path / "out").exists()


def test_what_pip_says_is_in_the_message(index, tmp_path):
    absent = package(index / "tiny-1.0.tar.gz", "wheel", version="2.0")
    with pytest.raises(PackageError, match=r"tiny==2\.0: .*No matching distribution") as error:
        fetch_members(absent, {"a": tmp_path / "a"})
    assert "\n" not in str(error.value)


def test_no_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackageError, match="has no pip; add it with `python -m ensurepip`"):
        fetch_members(Package("tiny", "1.0", "wheel", "0" * 64), {"a": tmp_path / "a"})


# --- unpacking, without pip ---------------------------------------------------------------------


@pytest.fixture
def unpack(tmp_path, monkeypatch):
    """Unpack one member of an archive that lies there already."""

    def unpack(archive, name, target=None):
        monkeypatch.setattr(packages, "_download", lambda package, folder: archive)
        target = target or tmp_path / "out/file"
        fetch_members(Package("tiny", "1.0", "wheel", "0" * 64), {name: target})
        return target

    return unpack


def test_no_name_in_an_archive_decides_where_a_file_lies(tmp_path, unpack):
    write_wheel(tmp_path / "a.whl", FILES)
    target = unpack(tmp_path / "a.whl", "tiny/../../escape.txt")
    assert target.read_bytes() == b"escaped"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.whl", "file", "out"]


@pytest.mark.parametrize("link", ["/etc/passwd", "real.txt"])
def test_links_are_refused(tmp_path, unpack, link):
    write_sdist(tmp_path / "a.tar.gz", {"real.txt": b"real"}, link=link)
    with pytest.raises(PackageError, match=r"tiny==1\.0 contains no regular file link"):
        unpack(tmp_path / "a.tar.gz", "link")
    assert not (tmp_path / "out").exists()


def test_a_missing_member_is_named(tmp_path, unpack):
    write_wheel(tmp_path / "a.whl", FILES)
    with pytest.raises(PackageError, match="contains no regular file tiny/nothing"):
        unpack(tmp_path / "a.whl", "tiny/nothing")


@pytest.mark.parametrize("kind", ["whl", "tar.gz", "text"])
def test_damage_leaves_nothing_behind(tmp_path, unpack, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "whl":
        write_wheel(archive, FILES)
        data = bytearray(archive.read_bytes())
        data[data.index(BIG[:100])] ^= 1
    elif kind == "tar.gz":
        write_sdist(archive, FILES)
        data = archive.read_bytes()[: len(BIG) // 2]
    else:
        data = b"<html>"
    archive.write_bytes(data)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("before")
    with pytest.raises(PackageError, match=r"cannot unpack tiny==1\.0: ."):
        unpack(archive, "tiny/data.bin")
    assert (tmp_path / "out/file").read_text() == "before"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_place_that_cannot_be_written(tmp_path, unpack):
    write_wheel(tmp_path / "a.whl", FILES)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PackageError, match=r"cannot unpack .*exists.*out"):
        unpack(tmp_path / "a.whl", "tiny/data.bin")
