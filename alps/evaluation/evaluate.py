"""The function `alps.evaluate`, which compares a store with the ground truth of its images."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from alps.evaluation.objects import InstanceScores, score_instances
from alps.evaluation.pseudo_labels import Evaluation
from alps.evaluation.pseudo_labels import evaluate as evaluate_classes
from alps.images.pixels.folder_pair import FolderPair
from alps.protocols import InstanceSet, LabelledSet
from alps.store.label_store import LabelStore


def evaluate(
    store: LabelStore | str | Path, truth: LabelledSet | InstanceSet | str | Path
) -> Evaluation | InstanceScores:
    """Compare a finished store with the ground truth of its images.

    Args:
        store: the store, or its folder.
        truth: the image set that the store was made from, with a class for each pixel or a
            ground-truth mask for each box; or the folder of an `alps.images.FolderPair`.

    Returns:
        `InstanceScores` of the masks if ``truth`` has ground-truth masks, otherwise an `Evaluation`
        of the classes and of baselines. If it has both kinds of ground truth, masks without boxes
        get an `Evaluation`.

    Raises:
        LabelError: no image can be compared.
        StoreError: the store cannot be read.
    """
    if isinstance(store, str | Path):
        store = LabelStore(store)
    if isinstance(truth, str | Path):
        truth = FolderPair(root=str(truth))
    has_pixels = hasattr(type(truth), "read_target")
    without_boxes = store.info.stages["masks"]["identity"].get("source") == "AutoMasks"
    if isinstance(truth, InstanceSet) and not (has_pixels and without_boxes):
        return score_instances(store, truth)
    return evaluate_classes(store, cast(LabelledSet, truth))
