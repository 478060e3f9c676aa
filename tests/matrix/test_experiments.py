"""Each protocol of conf/experiment with each of its nets."""

import pytest

from tests.experiments import NETS, PROTOCOLS, check_protocol
from tests.programs import LIGHTNING_WARNINGS, ROOT

pytestmark = LIGHTNING_WARNINGS


def test_every_experiment_is_tried():
    files = {path.stem for path in (ROOT / "conf/experiment").glob("*.yaml")}
    assert files == {*PROTOCOLS, *NETS}


@pytest.mark.parametrize("net", [*NETS, "model=efficientnet_lite0", "model=resnet18"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_steps_clips_validates_and_resumes(train, tmp_path, protocol, net):
    if net.startswith("model="):
        chosen = [f"experiment={protocol}", net]
    else:
        chosen = [f"experiment=[{protocol},{net}]"]
    check_protocol(train, tmp_path, protocol, *chosen, "head.channels=64")
