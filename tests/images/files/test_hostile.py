"""Files made to crash, hang or fill a reader, or to reach out of their folder."""

import ast
from pathlib import Path

import pytest

from benchmarks.fuzz import fuzz
from tests.mutants import FORMATS, Mutants

ROOT = Path(__file__).parents[3]


def test_mutants_of_all_formats_are_read_or_refused_in_one_line():
    """`python -m benchmarks.fuzz` does thousands."""
    tallies = fuzz(files=10 * len(FORMATS), seed=7, processes=1)
    assert [line for tally in tallies.values() for line in tally.lost] == []
    outcomes = [tally.outcomes for tally in tallies.values()]
    assert all(counts.total() == 10 for counts in outcomes)
    assert sum(counts["read"] for counts in outcomes) > 40
    assert sum(counts["refused"] for counts in outcomes) > 40


@pytest.mark.parametrize("name", FORMATS)
def test_the_originals_of_mutants_are_readable(name, tmp_path):
    FORMATS[name].write(tmp_path / "sound")
    FORMATS[name].read(tmp_path / "sound")


def test_mutants_are_reproducible_from_their_number(tmp_path):
    def make(folder):
        root = Mutants(tmp_path / folder).make("TIFF", 5)
        return {p.name: p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert make("a") == make("b")


def calls():
    """All calls in the package and the programs, with their file."""
    for path in (*ROOT.glob("alps/**/*.py"), ROOT / "label.py", ROOT / "train.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(ROOT).as_posix(), ast.unparse(node.func), node


RUNNERS = ("pickle.load", "pickle.loads", "eval", "exec", "yaml.load")


def test_readers_execute_no_code():
    found = set()
    for path, name, node in calls():
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        # A worker's tasks come through a pipe from the process that began it, not from a file.
        own = ("pickle.loads",) if path == "alps/labelling/engine/worker.py" else ()
        assert name in own or name not in RUNNERS, path
        assert given.get("allow_pickle", "False") == "False", path
        if name in ("torch.load", "trainer.fit"):
            found.add(name)
            assert given.get("weights_only") == "True", path
    assert found == {"torch.load", "trainer.fit"}
