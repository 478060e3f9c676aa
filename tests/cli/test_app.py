"""The installed command."""

import sys

import pytest

from alps.cli.app import COMMANDS, main
from tests.factories import create_images
from tests.programs import ROOT


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["alps", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


def test_without_a_command_it_says_which_there_are(monkeypatch, capsys):
    assert run(monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_an_unknown_command_is_named(monkeypatch, capsys):
    assert run(monkeypatch, "labels") == 2
    assert capsys.readouterr().err.startswith("alps: no such command: labels\nusage: alps COMMAND")


def test_each_command_starts(monkeypatch, capsys):
    """With a line of its own about what is missing, and Lightning can start the same file again."""
    assert run(monkeypatch, "label", "dataset=store") == 1
    assert "dataset=store is a label store" in capsys.readouterr().err
    assert sys.argv[0] == str(ROOT / "alps/cli/label.py")
    assert run(monkeypatch, "train") == 1
    assert "train.py needs a stage" in capsys.readouterr().err
    assert sys.argv[0] == str(ROOT / "alps/cli/train.py")
    assert run(monkeypatch, "export") == 2
    assert "--to" in capsys.readouterr().err
    assert run(monkeypatch, "verify", ROOT / "nowhere") == 1
    assert "nowhere/config.yaml: No such file" in capsys.readouterr().err


def test_verify_mends_a_store_by_its_own_configuration(tmp_path, label, monkeypatch, capfd):
    """Of a store made by label.py in another folder, with nothing said but its name."""
    create_images(tmp_path / "images", n=1, size=(32, 48))
    words = ("dataset=folder", f"dataset.root={tmp_path}/images", "dataset.name=x")
    made = label(*words, "recipe=binary", "masks.points_per_side=2", f"store={tmp_path}/s")
    assert made.returncode == 0, made.stderr
    index_map = next((tmp_path / "s/ann").rglob("*.png"))
    before = index_map.read_bytes()
    index_map.write_bytes(before[:-8])
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "argv", ["alps", "verify", str(tmp_path / "s")])
    main()
    assert index_map.name in capfd.readouterr().out
    assert index_map.read_bytes() == before
