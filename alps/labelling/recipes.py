"""The recipes of label.py as Python objects: mask source, featurizer and assigner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alps.assign.baselines import Binary, Random
from alps.assign.category import ByCategory
from alps.assign.cluster import Cluster
from alps.errors import ConfigError
from alps.features.joined import JoinedFeatures
from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.features.timm import TimmFeatures
from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.masks.box import BoxMasks
from alps.protocols import Assigner, Featurizer, ImageSet, MaskSource
from alps.sam.load import load_segmenter

#: Names of the recipes, as in ``conf/recipe``.
RECIPES = ("alps", "alps_paper", "samrs", "samtext", "random", "binary")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The three components of a recipe.

    Args:
        masks: source of the masks of an image.
        assign: assigns classes to masks.
        features: computes features of masks; None if the classes do not depend on them.
    """

    masks: MaskSource
    assign: Assigner
    features: Featurizer | None = None


def build_recipe(
    name: str,
    images: ImageSet,
    *,
    k: int = 46,
    points_per_side: int = 32,
    sam: str = "mobile",
    checkpoint: str | None = None,
    device: str = "auto",
    seed: int = 0,
    threads: int = 2,
) -> Recipe:
    """Return a recipe with the default settings of label.py.

    Args:
        name: one of `RECIPES`.
        images: the image set; the categories of its boxes are the classes of ``samrs`` and
            ``samtext``.
        k: number of classes of ``alps``, ``alps_paper`` and ``random``.
        points_per_side: point prompts per row and column of a tile, for recipes without boxes.
        sam: ``mobile``, ``vit_b``, ``vit_l`` or ``vit_h``.
        checkpoint: path of custom weights for the SAM model. None: the official weights.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: seed of the clusters or random classes.
        threads: CPU threads per image; their number does not change the result.

    Returns:
        The recipe, with the SAM model loaded.

    Raises:
        ConfigError: there is no such recipe, or a setting is out of range.
    """
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    segmenter = load_segmenter(sam, checkpoint, device)
    if name in ("samrs", "samtext"):
        return Recipe(BoxMasks(segmenter=segmenter), ByCategory(images))
    grid: dict[str, Any] = {
        "segmenter": segmenter,
        "points_per_side": points_per_side,
        "threads": threads,
    }
    if name == "alps_paper":
        masks = AutoMasks(**grid, **SAM_SETTINGS, max_area=0.3)
        assign = Cluster(k=k, seed=seed, niter=1, batch_size=512, weight="none")
        return Recipe(masks, assign, SamFeatures(segmenter=segmenter))
    if name == "binary":
        return Recipe(AutoMasks(**grid, ground=0), Binary())
    masks = AutoMasks(**grid)
    if name == "random":
        return Recipe(masks, Random(k=k, seed=seed))
    features = JoinedFeatures(parts={"timm": TimmFeatures(device=device), "shape": ShapeFeatures()})
    return Recipe(masks, Cluster(k=k, seed=seed), features)
