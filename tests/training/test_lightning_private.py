import re
from pathlib import Path

PRIVATE = re.compile(r"\bfit_loop\b|_connector\b|strategies\.launchers|trainer\._")


def test_one_file_uses_what_lightning_does_not_promise():
    paths = Path(__file__).parents[2].glob("alps/**/*.py")
    users = [path.name for path in paths if PRIVATE.search(path.read_text())]
    assert users == ["lightning_private.py"]
