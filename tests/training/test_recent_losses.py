"""Losses of several steps and processes, read at once."""

import math

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from alps.errors import DivergedError
from alps.training.recent_losses import RecentLosses


class TwoProcesses(SingleDeviceStrategy):
    """What the first of two processes sees."""

    def __init__(self, *others: float) -> None:
        super().__init__(device="cpu")
        self.others = others

    def all_gather(self, tensor, group=None, sync_grads=False):
        return torch.stack([tensor, torch.tensor(self.others)])

    def broadcast(self, obj, src=0):
        return obj if src == 0 else [f"their {name}" for name in obj]


def losses(*values: float) -> RecentLosses:
    recent = RecentLosses()
    for i, value in enumerate(values):
        recent.add(torch.tensor(value), step=10 + i, batch_idx=i, image_ids=[f"a{i}", f"b{i}"])
    return recent


def test_the_last_loss_is_that_of_all_processes():
    recent = losses(1.0, 2.0)
    assert not recent.was_read
    recent.read(TwoProcesses(1.0, 4.0))
    assert (recent.was_read, recent.last) == (True, 3.0)
    recent.read(TwoProcesses(1.0, 4.0))  # of no further step
    assert recent.last == 3.0


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ((1.0, math.inf, math.nan), (1.0, 1.0, 1.0), r"is inf at step 11 \(batch 1: a1, b1\);"),
        (
            (1.0, 1.0, 1.0),
            (1.0, 1.0, math.nan),
            r"is nan at step 12 \(batch 2: their a2, their b2\);",
        ),
    ],
)
def test_the_first_batch_of_a_bad_loss_is_named_by_all_processes(ours, theirs, message):
    with pytest.raises(DivergedError, match=f"^the loss {message} lower optim.lr"):
        losses(*ours).read(TwoProcesses(*theirs))
