"""Encoders on disk, in timm's names."""

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from alps.errors import CheckpointError, ConfigError, WeightsNotFound
from alps.pretrained.encoder import Encoder
from alps.pretrained.encoder_file import read_encoder_file, write_encoder_file

MEAN, STD = (10.5, 20.25, 30.1), (40.0, 50.0, 1 / 3)


def write(path, encoder, **changes):
    options = {"model": encoder.name, "mean": MEAN, "std": STD, "source": "ab" * 32, **changes}
    write_encoder_file(path, encoder.trunk.state_dict(), **options)
    return path


def test_timm_loads_it_strictly_and_gives_the_same_features(tmp_path):
    encoder = Encoder("test_resnet").eval().to(memory_format=torch.channels_last)
    path = write(tmp_path / "a/encoder.safetensors", encoder)
    image = torch.randn(1, 3, 64, 64)
    network = timm.create_model("test_resnet", checkpoint_path=str(path), num_classes=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(network.forward_features(image), encoder(image)[-1])
    with safe_open(path, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "model": "test_resnet",
            "mean": "[10.5, 20.25, 30.1]",
            "std": "[40.0, 50.0, 0.3333333333333333]",
            "in_channels": "3",
            "checkpoint_sha256": "ab" * 32,
        }
    assert [p.name for p in path.parent.iterdir()] == ["encoder.safetensors"]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_an_encoder_loads_what_another_has_written(tmp_path, name):
    first, second = Encoder(name), Encoder(name)
    for tensor in first.trunk.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_()
    second.load_file(write(tmp_path / "a.safetensors", first))
    assert (second.mean, second.std) == (MEAN, STD)
    for key, value in first.trunk.state_dict().items():
        torch.testing.assert_close(second.trunk.state_dict()[key], value, rtol=0, atol=0)


def test_weights_of_other_programs_keep_timms_statistics(tmp_path):
    network = timm.create_model("test_resnet")
    torch.save({"teacher": network.state_dict(), "epoch": 3}, tmp_path / "a.pth")
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        encoder = Encoder("test_resnet")
        mean = encoder.mean
        encoder.load_file(tmp_path / name)
        assert encoder.mean == mean
        torch.testing.assert_close(encoder.trunk.conv1[0].weight, network.conv1[0].weight)


def test_a_vit_of_another_patch_size_is_resized(tmp_path):
    """The mean over a patch, which resizing keeps, stands for the filter."""
    network = timm.create_model("test_vit", patch_size=8, img_size=96)
    torch.nn.init.ones_(network.patch_embed.proj.weight)
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    encoder = Encoder("test_vit")
    encoder.load_file(tmp_path / "a.safetensors")
    weight = encoder.trunk.patch_embed.proj.weight
    assert weight.shape[2:] == (16, 16)
    torch.testing.assert_close(weight.sum(dim=(2, 3)), torch.full(weight.shape[:2], 64.0))


def test_what_does_not_fit_gets_one_line(tmp_path):
    encoder = Encoder("test_resnet")
    path = write(tmp_path / "a.safetensors", encoder)
    with pytest.raises(CheckpointError, match="encoder 'test_resnet', but the model is 'test_vit'"):
        Encoder("test_vit").load_file(path)
    with pytest.raises(CheckpointError, match="an encoder for 4 bands, but images with 3 are"):
        encoder.load_file(write(tmp_path / "b.safetensors", encoder, mean=(0.0,) * 4))

    state = load_file(path)
    state["renamed"] = state.pop("bn1.bias") if "bn1.bias" in state else state.popitem()[1]
    save_file(state, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=r"c.safetensors .*: 1 of \d+ weights are missing, "):
        encoder.load_file(tmp_path / "c.safetensors")

    state = {name: v[:1] if v.ndim else v for name, v in load_file(path).items()}
    save_file(state, tmp_path / "d.safetensors")
    with pytest.raises(
        CheckpointError, match=r"d.safetensors is not a checkpoint of .*mismatch"
    ) as e:
        encoder.load_file(tmp_path / "d.safetensors")
    assert "\n" not in str(e.value)


def test_what_is_no_encoder_gets_one_line(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"no.pth: no such file; .*export.to=encoder writes"):
        read_encoder_file(tmp_path / "no.pth")
    torch.save({"alps": {"version": "1"}, "state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"stage=export export.to=encoder ckpt=\S+last.ckpt"):
        read_encoder_file(tmp_path / "last.ckpt")
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsNotFound, match=r"a.pth contains no weights, but epoch; expected a"):
        read_encoder_file(tmp_path / "a.pth")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"model": "x", "mean": "[1"})
    with pytest.raises(WeightsNotFound, match=r"a.safetensors has unreadable metadata"):
        read_encoder_file(tmp_path / "a.safetensors")


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*, or choose another folder"):
        write(tmp_path / "file/encoder.safetensors", Encoder("test_resnet"))
