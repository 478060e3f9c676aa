"""Three of the protocols; tests/matrix tries each with each net."""

import pytest

from tests.experiments import check_protocol
from tests.programs import LIGHTNING_WARNINGS, TINY

pytestmark = [LIGHTNING_WARNINGS, pytest.mark.usefixtures("no_pictures")]


@pytest.mark.parametrize("protocol", ["alps_pretrain", "potsdam", "samrs_sep"])
def test_it_steps_clips_validates_and_resumes(train, tmp_path, protocol):
    check_protocol(train, tmp_path, protocol, f"experiment={protocol}", *TINY[:-2])
