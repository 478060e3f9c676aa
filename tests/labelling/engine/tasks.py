"""Tasks for workers, in a module with few imports, so that workers start in two seconds."""

import logging
import os
import signal
from pathlib import Path

from alps.errors import StoreError


def add_one(number):
    """Add one; for a path that does not exist, create it and die; for 13, raise an error."""
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


class UnpicklableError(Exception):
    """An exception that cannot be unpickled, because its args differ from its parameters."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def raise_unpicklable(number):
    raise UnpicklableError(number, number)


def choose_gpu(number):
    """Return the visible GPU, and the fraction of its memory that this process may use."""
    from unittest.mock import patch

    import torch

    from alps.pretrained.device import DeviceSetting
    from tests.pretend_cuda import PretendCuda

    with (
        PretendCuda(),
        patch.object(torch.cuda, "set_per_process_memory_fraction") as limit,
    ):
        DeviceSetting("auto", key="sam.device").choose()
    return os.environ["CUDA_VISIBLE_DEVICES"], [call.args[0] for call in limit.call_args_list]
