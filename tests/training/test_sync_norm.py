"""Batch norms of several processes compute what those of one do."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, SplitBatchNorm2d
from torch.testing import assert_close

from alps.errors import ConfigError
from alps.models.heads.fcn import FCN
from alps.models.heads.fpn import FPN
from alps.models.heads.unet import UNet
from alps.models.heads.upernet import UPerNet
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder
from alps.training.sync_norm import SyncBatchNorm

#: Twenty nets: with batch norms of torch's, of timm's with activations, of both, and without any.
NETS = (
    *("convnext_atto", "densenet121", "efficientnet_b0", "fastvit_t8", "ghostnet_050"),
    *("hrnet_w18_small", "lcnet_035", "mobilenetv2_050", "mobilenetv3_small_050", "regnetx_002"),
    *("mobilenetv4_conv_small_035", "regnety_002", "repghostnet_050", "resnet18", "resnetv2_50"),
    *("rexnet_100", "skresnet18", "test_byobnet", "test_vit", "tf_efficientnet_lite0"),
)


def build(name: str) -> SegmentationModel:
    """A net as train.py builds it, without what is random in training."""
    encoder = Encoder(name)
    head = {
        "resnet18": lambda: UPerNet(encoder.channels, channels=32, dropout=0.0),
        "regnetx_002": lambda: UNet(encoder.channels, channels=16),
    }.get(name, lambda: FPN(encoder.channels, channels=32, pyramid_channels=32, dropout=0.0))()
    return SegmentationModel(
        encoder, head, num_classes=4, aux_head=FCN(encoder.channels, channels=8)
    )


def outputs(model: SegmentationModel, image: torch.Tensor) -> list[torch.Tensor]:
    """Logits in training, and in evaluation with the statistics of that step."""
    torch.manual_seed(0)
    with torch.no_grad():
        trained = model.train()(image)
        return [trained.logits, trained.aux, model.eval()(image).logits]


@pytest.mark.parametrize("name", NETS)
def test_a_synchronised_net_is_the_net_that_is_tested(name):
    torch.manual_seed(0)
    model = build(name)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:  # unlike those of a new net, in which much is symmetric
        norm.running_mean.normal_(0, 0.1)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.5)
    image = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    expected = outputs(copy.deepcopy(model), image)

    sync = SyncBatchNorm()
    converted = sync.apply(model)
    n = sum(isinstance(m, torch.nn.SyncBatchNorm) for m in converted.modules())
    assert n == len(norms)
    found = outputs(converted, image)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)

    # What stage=test makes of the checkpoint.
    rebuilt = build(name)
    rebuilt.load_state_dict(converted.state_dict())
    with torch.no_grad():
        assert_close(rebuilt.eval()(image).logits, expected[2], rtol=1e-5, atol=1e-5)

    # After the run the net is what it was, and has learnt.
    reverted = sync.revert(converted)
    assert [type(m) for m in reverted.modules()] == [type(m) for m in rebuilt.modules()]
    with torch.no_grad():
        assert_close(reverted.eval()(image).logits, expected[2], rtol=1e-5, atol=1e-5)


def test_what_is_reverted_has_moved_with_the_net():
    """A buffer on another device is another tensor."""
    sync = SyncBatchNorm()
    model = sync.apply(torch.nn.Sequential(BatchNormAct2d(3), torch.nn.BatchNorm2d(3)))
    model.double()(torch.ones(1, 3, 2, 2, dtype=torch.float64))
    mean = model[1].running_mean
    reverted = sync.revert(model)
    assert [type(m).__name__ for m in reverted] == ["BatchNormAct2d", "BatchNorm2d"]
    assert reverted[1].running_mean is mean
    assert mean.dtype == torch.float64


def hooked():
    norm = torch.nn.BatchNorm2d(3)
    norm.register_forward_hook(lambda module, args, output: output * 2)
    return norm


@pytest.mark.parametrize(
    ("norm", "kind"),
    [(lambda: SplitBatchNorm2d(3), "SplitBatchNorm2d"), (hooked, "BatchNorm2d with hooks")],
)
def test_a_norm_that_would_change_is_refused(norm, kind):
    with pytest.raises(
        ConfigError, match=rf"batch norm 0 \({kind}\) cannot be .*trainer.sync_batchnorm=false"
    ):
        SyncBatchNorm().apply(torch.nn.Sequential(norm()))
