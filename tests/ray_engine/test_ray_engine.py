"""Ray actors write what one process writes."""

import signal
from pathlib import Path

import pytest
import ray

from alps.errors import AlpsError, ConfigError, StoreError
from alps.labelling.engine.local import LocalEngine
from alps.labelling.engine.ray import RayEngine
from tests.labelling.engine.runs import IMAGES, files, run
from tests.labelling.engine.tasks import add_one

ENGINE = RayEngine(actors=2, threads=1)


def test_no_actors_are_refused():
    with pytest.raises(ConfigError, match=r"^actors=0: expected an integer >= 1"):
        RayEngine(actors=0)


def test_an_address_where_nobody_listens_is_named():
    with (
        RayEngine(address="127.0.0.1:1").workers() as run_all,
        pytest.raises(
            AlpsError, match=r"no Ray cluster responds at 127\.0\.0\.1:1: .*refused; start"
        ),
    ):
        list(run_all(add_one, [1]))


def test_a_killed_actor_is_named_and_its_piece_done_by_another(tmp_path, caplog):
    with ENGINE.workers() as run_all:  # on a cluster of its own
        items = [1, 2, str(tmp_path / "died"), 3, 4]
        assert [value for _, value in sorted(run_all(add_one, items))] == [2, 3, 8, 4, 5]
        with pytest.raises(StoreError, match=r"^no space left$"):
            list(run_all(add_one, [13]))
    assert "(a Ray actor) has died" in caplog.text
    assert caplog.text.count("acted on") == 5
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("one") / "store"
    run(root, LocalEngine(threads=1))
    return files(root)


@pytest.fixture(scope="module")
def cluster():
    """One for several tests: it takes seconds to start, and a run leaves it as it is."""
    before = signal.getsignal(signal.SIGTERM)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)  # Ray took it


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


def test_two_actors_end_what_one_process_began(tmp_path, undisturbed, cluster, caplog):
    half_of(tmp_path / "store", undisturbed)
    _, timings = run(tmp_path / "store", ENGINE)
    assert files(tmp_path / "store") == undisturbed
    assert 0 < timings.images["masks"] < IMAGES
    assert caplog.text.count("skipped site/broken.png: site/broken.png: truncated") == 1


def test_two_actors_write_what_one_process_writes(tmp_path, undisturbed, cluster):
    run(tmp_path / "store", ENGINE)
    assert files(tmp_path / "store") == undisturbed
