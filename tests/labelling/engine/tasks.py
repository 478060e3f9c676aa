"""Tasks for workers, where they import little: a worker of one begins in two seconds."""

import logging
import os
import signal
from pathlib import Path

from alps.errors import StoreError


def act(number):
    """Adds one; dies at a path that it sees for the first time, raises at 13."""
    if number == 13:
        raise StoreError("no space left")
    if isinstance(number, str):
        path = Path(number)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        number = 7
    logging.getLogger("alps.test").warning("acted on %d", number)
    return number + 1


def die_at_five(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def square(number):
    if number < 0:
        raise StoreError(f"cannot write {number}")
    if number > 100:
        raise ZeroDivisionError(f"{number}")
    logging.getLogger("alps.test").warning("squared %d", number)
    return number * number


class Awkward(Exception):
    """Its arguments are not those that it was made from, so that it cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def raise_awkward(number):
    raise Awkward(number, number)
