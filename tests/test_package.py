"""Promises about the package as a whole."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_does_nothing():
    """Measured fresh: neither torch nor hydra; 0.3 s would be long for what is left."""
    code = "import sys, alps; print([m for m in ('torch', 'hydra', 'numpy') if m in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_public_classes_are_attributes_of_alps():
    """As README writes them, after nothing but `import alps`."""
    code = "import alps; print(alps.images.Potsdam, alps.masks.AutoMasks, alps.structures.Masks)"
    assert run(sys.executable, "-c", code).returncode == 0


def test_imports_point_down():
    result = run(Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert result.returncode == 0, result.stdout


def test_every_dependency_is_listed_with_its_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.match(r"[\w-]+", line)[0] for group in groups for line in group} - {
        "alps-segmentation"
    }
    lines = (ROOT / "DEPENDENCIES.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert sorted(row[0] for row in rows) == sorted(wanted)
    assert all(len(row) == 3 and all(row) for row in rows)
