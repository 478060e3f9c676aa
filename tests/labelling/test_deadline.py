"""A limit on the time that one file may take."""

import signal
import time

import pytest

from alps.errors import ImageError
from alps.labelling.deadline import deadline


@pytest.fixture
def alarm():
    """The alarm of a caller, a minute from now."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    timer = signal.setitimer(signal.ITIMER_REAL, 60)
    yield signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, *timer)  # that of pytest-timeout
    signal.signal(signal.SIGALRM, before)


def test_what_takes_longer_is_one_line(alarm):
    message = r"a.png takes longer than 0.05 s to read"
    with pytest.raises(ImageError, match=message), deadline(0.05, "a.png"):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) is alarm


def test_the_alarm_of_a_caller_goes_on(alarm):
    with deadline(30.0, "a.png"):
        time.sleep(0.05)
    assert signal.getsignal(signal.SIGALRM) is alarm
    assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] < 60
