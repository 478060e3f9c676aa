"""Without mmsegmentation; with it, tests/mmsegmentation compares what the nets say."""

import pytest
import torch

from alps.errors import CheckpointError
from alps.models.heads.fpn import FPN
from alps.models.heads.upernet import UPerNet
from alps.models.init import load_init
from alps.models.mmseg_export import mmseg_state
from alps.models.mmseg_names import from_mmseg, is_mmseg, mmseg_name
from tests.models.nets import build, copy, save


def theirs(model):
    """The net under its names, as its ResNet calls the backbone's."""
    return {
        (
            f"backbone.{name.removeprefix('encoder.trunk.')}"
            if name.startswith("encoder.")
            else mmseg_name(name)
        ): value
        for name, value in model.state_dict().items()
        if name not in ("mean", "std")
    }


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        ("head.bottleneck.bn.bias", "decode_head.bottleneck.bn.bias"),
        ("head.decode_head.convs.0.conv.weight", "decode_head.convs.0.conv.weight"),
        ("head.pyramid.inner_blocks.2.0.weight", "neck.lateral_convs.2.conv.weight"),
        ("head.pyramid.layer_blocks.3.0.bias", "neck.fpn_convs.3.conv.bias"),
        ("head.branches.0.0.0.weight", "decode_head.scale_heads.0.0.conv.weight"),
        ("head.branches.3.2.1.bias", "decode_head.scale_heads.3.4.gn.bias"),
        ("classifier.bias", "decode_head.conv_seg.bias"),
        ("aux_head.conv.bn.weight", "auxiliary_head.convs.0.bn.weight"),
        ("aux_classifier.weight", "auxiliary_head.conv_seg.weight"),
    ],
)
def test_names(ours, name):
    assert mmseg_name(ours) == name


@pytest.mark.parametrize("head", [UPerNet, FPN])
def test_a_whole_net(tmp_path, head):
    source, model = build("resnet18", head=head, aux=True), build("resnet18", head=head, aux=True)
    state = theirs(source)
    assert is_mmseg(state)
    assert len(state) == len(source.state_dict()) - 2
    report = load_init(model, save(tmp_path, {"meta": {}, "state_dict": state}))
    assert all(loaded == total for loaded, total in report.parts.values())
    expected = copy(source)
    for name, value in model.state_dict().items():
        if name not in ("mean", "std") and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, expected[name])


def test_a_trunk_with_a_head_of_its_own(tmp_path):
    source, model = build("selecsls42", head=FPN), build("selecsls42", head=FPN)
    assert any(name.startswith("encoder.trunk.head.") for name in source.state_dict())
    report = load_init(model, save(tmp_path, {"state_dict": mmseg_state(source)}))
    assert all(loaded == total for loaded, total in report.parts.values())


def test_parts_that_our_net_does_not_have_are_reported(tmp_path):
    path = save(tmp_path, theirs(build("resnet18", head=UPerNet, aux=True)))
    report = load_init(build("resnet18", head=UPerNet), path)
    assert "7 tensors of the file are not in the model: aux_head.convs.0.conv.weight" in str(report)
    with pytest.raises(CheckpointError, match=r"head has 0 of .*set model= and head="):
        load_init(build("resnet18", head=FPN), path)


def test_swin_joins_four_neighbours_in_another_order():
    """Channel c of neighbour n is at 4c + n there; the neighbours of timm go down first."""
    names = ["backbone.stages.0.blocks.1.attn.w_msa.qkv.bias", "decode_head.conv_seg.bias"]
    state = {name: torch.zeros(1) for name in names}
    state["backbone.stages.0.downsample.norm.weight"] = torch.arange(8)  # 2 channels
    state["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"] = torch.zeros(1)
    renamed = from_mmseg(state, [])
    assert set(renamed) == {
        "encoder.trunk.layers.0.blocks.1.attn.qkv.bias",
        "encoder.trunk.layers.1.downsample.norm.weight",
        "head.conv_seg.bias",
    }
    order = renamed["encoder.trunk.layers.1.downsample.norm.weight"].tolist()
    top_left, bottom_left, top_right, bottom_right = [0, 4], [2, 6], [1, 5], [3, 7]
    assert order == top_left + bottom_left + top_right + bottom_right


def test_a_part_that_it_does_not_have():
    with pytest.raises(ValueError, match="mean has no equivalent"):
        mmseg_name("mean")
