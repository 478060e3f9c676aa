"""Each protocol and each net of conf/experiment once; tests/matrix tries all pairs in full size."""

import pytest

from tests.experiments import NETS, PROTOCOLS, check_protocol
from tests.programs import LIGHTNING_WARNINGS

pytestmark = LIGHTNING_WARNINGS

#: The net of each protocol, and a small encoder of the family; timm has no smaller Swin.
PAIRS = {
    "alps_pretrain": ("upernet_resnet50", "test_resnet"),
    "demo": (None, None),
    "isaid": ("upernet_convnext_tiny", "test_convnext"),
    "potsdam": ("upernet_swin_tiny", None),
    "samrs_sep": ("upernet_vit_base", "test_vit"),
}


def test_none_is_left_out():
    assert PAIRS.keys() == PROTOCOLS.keys()
    assert {net for net, _ in PAIRS.values() if net} == {*NETS}


@pytest.mark.parametrize("protocol", PAIRS)
def test_it_steps_clips_validates_and_resumes(train, tmp_path, protocol):
    net, encoder = PAIRS[protocol]
    chosen = f"experiment=[{protocol},{net}]" if net else f"experiment={protocol}"
    small = ["head.channels=32", *([f"model.encoder={encoder}"] if encoder else [])]
    check_protocol(train, tmp_path, protocol, chosen, *small)
