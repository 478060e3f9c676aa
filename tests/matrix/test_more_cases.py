"""Cases of slow tests beside the one that `make test` has."""

import signal

import pytest

from tests.cli.test_train_stops import check_stopped_program
from tests.labelling.engine import test_local
from tests.labelling.engine.test_local import expected  # noqa: F401 - a fixture
from tests.programs import LIGHTNING_WARNINGS
from tests.sam import test_segmenter
from tests.sam.test_segmenter import plot, segmenter  # noqa: F401 - fixtures
from tests.training.stopping import test_interrupt
from tests.training.stopping.test_interrupt import wholes  # noqa: F401 - a fixture

pytestmark = [LIGHTNING_WARNINGS, test_interrupt.pytestmark]


@pytest.mark.parametrize("stop", test_interrupt.STOPS)
@pytest.mark.parametrize("ema", [False, True])
def test_a_stopped_run_goes_on_exactly(tmp_path, wholes, stop, ema):  # noqa: F811
    test_interrupt.check_stop(tmp_path, *wholes[ema], *stop, ema=ema)


def test_a_terminated_run_says_how_to_go_on(pair, tmp_path):
    check_stopped_program(pair, tmp_path, signal.SIGTERM, 143)


def test_a_terminated_process_is_resumed_by_two(tmp_path, expected):  # noqa: F811
    test_local.check_signal(tmp_path / "store", expected, signal.SIGTERM, 1)


def test_automatic_masks_with_crops_equal_segment_anything(segmenter, plot):  # noqa: F811
    test_segmenter.check_automatic_masks(segmenter, plot, layers=1, side=2)
