"""Losses of the latest steps, which stay on the device until several are read at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from alps.errors import DivergedError

REMEDY = "lower optim.lr, lengthen optim.warmup or set trainer.gradient_clip_val=1"


class RecentLosses:
    """Losses of the steps since the last `read`.

    To read a value from a GPU, the program waits until the GPU has finished all its work. Reading
    the losses of several steps at once therefore takes as long as reading one.
    """

    def __init__(self) -> None:
        self.last = math.nan  # the latest loss that was read, or NaN
        self._losses: list[Float[Tensor, ""]] = []
        self._batches: list[tuple[int, int, Sequence[str]]] = []

    @property
    def was_read(self) -> bool:
        """Whether a loss has been read."""
        return not math.isnan(self.last)

    def add(
        self, loss: Float[Tensor, ""], step: int, batch_idx: int, image_ids: Sequence[str]
    ) -> None:
        """Add the loss of a batch without reading it.

        Args:
            loss: the loss.
            step: number of completed optimiser steps.
            batch_idx: index of the batch.
            image_ids: ids of the images in the batch, for the message of an error.
        """
        self._losses.append(loss.detach())
        self._batches.append((step, batch_idx, image_ids))

    def read(self, strategy: Strategy) -> None:
        """Read the added losses of all processes; every process has to call this method.

        Args:
            strategy: Lightning's strategy, which communicates among the processes.

        Raises:
            DivergedError: a loss is not finite; the message names the first such batch.
        """
        if not self._losses:
            return
        losses, batches = torch.stack(self._losses), self._batches
        self._losses, self._batches = [], []
        by_process = strategy.all_gather(losses).view(-1, len(losses)).tolist()
        for i, (step, batch_idx, image_ids) in enumerate(batches):
            values = [losses[i] for losses in by_process]
            self.last = sum(values) / len(values)
            for rank, value in enumerate(values):
                if not math.isfinite(value):
                    names = strategy.broadcast(list(image_ids), src=rank)
                    raise DivergedError(
                        f"the loss is {value} at step {step} (batch {batch_idx}: "
                        f"{', '.join(names)}); {REMEDY}, or check these images"
                    )
