"""Checkpoint files of others: weights are read, and no code in them runs."""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from alps.errors import WeightsNotFound
from alps.pretrained.cache import (
    Placeholder,
    load_weights,
)

# --- loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_load(tmp_path, zipped):
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    loaded = load_weights(tmp_path / "a.pt")
    assert list(loaded) == list(state)
    for name, tensor in state.items():
        torch.testing.assert_close(loaded[name], tensor)
        assert loaded[name].device.type == "cpu"


def test_safetensors(tmp_path):
    state = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    save_file(state, tmp_path / "a.safetensors")
    torch.testing.assert_close(load_weights(tmp_path / "a.safetensors"), state)
    (tmp_path / "a.safetensors").write_bytes(b"\x09")
    with pytest.raises(WeightsNotFound, match=r"a\.safetensors is not a checkpoint .*: .*eader"):
        load_weights(tmp_path / "a.safetensors")


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_no_code_in_a_checkpoint_runs(tmp_path, how):
    content = {"weight": torch.ones(2), "evil": Evil(tmp_path / "pwned")}
    if how == "pickle":
        (tmp_path / "a.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        WeightsNotFound, match=r"a\.pt is not a checkpoint of plain tensors"
    ) as error:
        load_weights(tmp_path / "a.pt")
    assert not (tmp_path / "pwned").exists()
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # no advice to lower the guard


class Loads:
    def __init__(self, source):
        self.source = source

    def __reduce__(self):
        return np.load, (self.source,)


def test_what_lies_beside_the_weights_is_left_out(tmp_path, monkeypatch):
    """Objects of mmengine, as its runner writes them, and of numpy; mmengine is not imported."""
    fake = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self):
            self.log = np.arange(3)
            self.methods = {"mean": self.mean}

        def mean(self):
            return self.log.mean()

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = fake.__name__, "HistoryBuffer"
    fake.HistoryBuffer = HistoryBuffer
    parents = ("mmengine", "mmengine.logging")
    for name in (*parents, fake.__name__):
        monkeypatch.setitem(sys.modules, name, fake)
    content = {
        "message_hub": {"loss": HistoryBuffer(), "lr": np.float64(0.1), "iter": 3},
        "harm": Loads(str(tmp_path / "nosuch.npy")),
        "state_dict": {"weight": torch.ones(2)},
    }
    torch.save(content, tmp_path / "a.pt")
    monkeypatch.undo()
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        torch.load(tmp_path / "a.pt", weights_only=True)
    read = load_weights(tmp_path / "a.pt")
    assert read["state_dict"]["weight"].tolist() == [1, 1]
    hub = read["message_hub"]
    assert hub["iter"] == 3
    assert [type(x) for x in (hub["loss"], hub["lr"], read["harm"])] == [Placeholder] * 3
    assert vars(hub["loss"]) == {}


@pytest.mark.parametrize(
    ("beside", "kind"),
    [
        (argparse.Namespace(lr=0.1, out=Path("x"), by=defaultdict(list, {"a": [1]})), Placeholder),
        (OmegaConf.create({"a": {"b": [1, None, "${a}"]}, "c": 1.5}), Placeholder),
        (types.SimpleNamespace(a=1), Placeholder),
        (defaultdict(int, {"a": 1}), OrderedDict),
    ],
)
def test_arguments_and_configurations_beside_the_weights_are_left_out(tmp_path, beside, kind):
    """As MAE's program and its followers write them; nothing of them is made."""
    torch.save({"model": {"weight": torch.ones(2)}, "args": beside}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match="Unsupported"):
        torch.load(tmp_path / "a.pt", weights_only=True)
    read = load_weights(tmp_path / "a.pt")
    assert read["model"]["weight"].tolist() == [1, 1]
    assert type(read["args"]) is kind
    assert vars(read["args"]) == {}


def test_other_code_beside_the_weights_is_refused(tmp_path):
    for harm, reason in ((os.system, "posix.system"), (print, "GLOBAL print was not an allowed")):
        args = argparse.Namespace(harm=harm)
        torch.save({"model": {"weight": torch.ones(2)}, "args": args}, tmp_path / "a.pt")
        with pytest.raises(WeightsNotFound, match=f"of plain tensors, .* {reason}"):
            load_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\3\4 cut off", b"\x80\2."])
def test_no_checkpoint_at_all(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsNotFound, match=r"a\.pt is not a checkpoint of plain tensors, .*: ."):
        load_weights(tmp_path / "a.pt")


def test_a_truncated_checkpoint(tmp_path):
    torch.save({"a": torch.ones(10_000)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsNotFound, match=r"torch\.save: the file is truncated"):
        load_weights(tmp_path / "a.pt")


def test_a_tensor_alone_is_no_checkpoint(tmp_path):
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with pytest.raises(WeightsNotFound, match="it contains a Tensor, expected a dict"):
        load_weights(tmp_path / "a.pt")
