import re
from pathlib import Path

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

PRIVATE = re.compile(r"\bfit_loop\b|_connector\b|strategies\.launchers|trainer\._")


def test_one_file_uses_what_lightning_does_not_promise():
    paths = Path(__file__).parents[2].glob("alps/**/*.py")
    users = [path.name for path in paths if PRIVATE.search(path.read_text())]
    assert users == ["lightning_private.py"]


def test_the_exchange_that_is_skipped_is_lightnings():
    """It would come back unnoticed under another name."""
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)
