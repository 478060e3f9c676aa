"""Train on N processes: `python -m tests.training.ddp_run N FOLDER [joint]`.

What came of it goes into the folder.

A program of its own, since Lightning starts the other processes by running it again.
"""

import json
import sys
import warnings
from pathlib import Path

import torch

from tests.training.tiny_runs import ColoredBlocks, Losses, tiny_data, tiny_task, tiny_trainer


def main(processes: int, folder: Path, joint: bool) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # Neither number is a multiple of the processes.
    images = ColoredBlocks(n=13, val=5)
    if joint:  # of a batch of eight the last has one image: a process of two has none of it
        few = ColoredBlocks(n=5, val=3, num_classes=2, ignore_index=7)
        images = {"many": images, "some": ColoredBlocks(n=9, val=3), "few": few}
    # Norms that see one image: batch norm has no synchronised form on a CPU.
    task = tiny_task(images, encoder="test_convnext", dropout=0.0)
    losses = Losses()
    trainer = tiny_trainer(
        folder,
        steps=6,
        callbacks=[losses],
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
    )
    trainer.fit(task, datamodule=tiny_data(images, batch_size=8 // processes))
    if trainer.is_global_zero:
        torch.save(task.model.state_dict(), folder / "weights.pt")
        result = {
            "processes": trainer.world_size,
            "losses": losses.values,
            "confusion": [subject.confusion.tolist() for subject in task.subjects],
            "mIoU": task.mean("mIoU"),
        }
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), "joint" in sys.argv)
