"""Ray actors write what one process writes. One cluster for all tests: it takes seconds."""

import logging
import os
import signal
from pathlib import Path

import pytest

from alps.engine.local import LocalEngine
from alps.engine.ray import RayEngine
from alps.errors import AlpsError, ConfigError, StoreError
from alps.sharing import in_order
from tests.engine.runs import IMAGES, files, run

ENGINE = RayEngine(actors=2, threads=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("one") / "store"
    run(root, LocalEngine(threads=1))
    return files(root)


def half_of(root, undisturbed):
    """As if killed: some shards, no clusters."""
    for name, content in undisturbed.items():
        shard = Path(name).stem
        if "/" not in name or (shard.isdigit() and int(shard) < 5 and "labels" not in name):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for name in ("manifest.json", "report.html", "categories.json"):
        (root / name).unlink()


def test_two_actors_end_what_one_process_began(tmp_path, undisturbed, caplog):
    half_of(tmp_path / "store", undisturbed)
    _, timings = run(tmp_path / "store", ENGINE)
    assert files(tmp_path / "store") == undisturbed
    assert 0 < timings.images["masks"] < IMAGES
    assert caplog.text.count("skipped site/broken.png: site/broken.png: truncated") == 1


def test_two_actors_write_what_one_process_writes(tmp_path, undisturbed):
    run(tmp_path / "store", ENGINE)
    assert files(tmp_path / "store") == undisturbed


def act(number):
    if number == 13:
        raise StoreError("no space left")
    if isinstance(number, str):
        path = Path(number)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        number = 7
    logging.getLogger("alps.test").warning("acted on %d", number)
    return number + 1


def test_a_killed_actor_is_named_and_its_piece_done_by_another(tmp_path, caplog):
    with ENGINE.workers() as run_all:
        items = [1, 2, str(tmp_path / "died"), 3, 4]
        assert list(in_order(run_all)(act, items)) == [2, 3, 8, 4, 5]
        with pytest.raises(StoreError, match=r"^no space left$"):
            list(run_all(act, [13]))
    assert "(a Ray actor) has died" in caplog.text
    assert caplog.text.count("acted on") == 5


def test_what_is_no_cluster_is_refused():
    with pytest.raises(ConfigError, match=r"engine.actors=0: expected 1 or more"):
        RayEngine(actors=0)
    with (
        RayEngine(address="127.0.0.1:1").workers() as run_all,
        pytest.raises(AlpsError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"),
    ):
        list(run_all(act, [1]))
