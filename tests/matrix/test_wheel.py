"""The package as it is installed: built, put into a folder of its own, run outside the clone."""

import os
import subprocess
import sys
import tarfile

import pytest

from tests.factories import create_image
from tests.programs import ROOT


def run(*command, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a wheel and of a source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    code = (
        "import sys, hatchling.build as b; b.build_wheel(sys.argv[1]); b.build_sdist(sys.argv[1])"
    )
    run("-c", code, folder, cwd=ROOT)
    return folder


def test_it_labels_verifies_and_exports_outside_the_clone(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    create_image(tmp_path / "work/images/a.png", (64, 96))

    def alps(*arguments):
        return run(target / "bin/alps", *arguments, cwd=tmp_path / "work", PYTHONPATH=str(target))

    where = run("-c", "import alps; print(alps.__file__)", cwd="/", PYTHONPATH=str(target))
    assert where.strip() == str(target / "alps/__init__.py")
    words = ("dataset=folder", "dataset.root=images", "dataset.name=x", "recipe=binary")
    assert "1 labelled" in alps("label", *words, "masks.points_per_side=2")
    assert (tmp_path / "work/data/x_pl/manifest.json").exists()
    alps("verify", "data/x_pl")
    alps("export", "data/x_pl", "--to", "coco", "--out", "coco")
    assert (tmp_path / "work/coco/instances_train.json").exists()
    assert "stage=pretrain" in alps("train", "--help")


def test_the_source_distribution_is_whole(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"label.py", "train.py", "alps/conf/label.yaml", "alps/py.typed"} <= names
