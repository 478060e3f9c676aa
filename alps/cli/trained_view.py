"""Reading of test rasters with the view that a model was trained on."""

from __future__ import annotations

import logging

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from alps.images import StoredLabels, Vectors
from alps.rasters.view import View

logger = logging.getLogger(__name__)


def with_trained_view(dataset: DictConfig, view: View | None) -> DictConfig:
    """Return a dataset whose rasters are read as in training, as stage=predict reads them.

    Args:
        dataset: configuration of an image set.
        view: view of the checkpoint; None: it was not trained on rasters.

    Returns:
        The configuration with the view of the checkpoint. ``dataset.bands`` is kept if it is set,
        because the order of bands is checked later.
    """
    if view is None or not issubclass(get_class(dataset._target_), Vectors):
        return dataset
    settings = {
        "rgb": view.rgb,
        "bands": dataset.get("bands") or view.names or view.bands,
        "stretch": view.limits or "image",  # without limits, 8-bit values are kept
        "gsd": view.gsd,
    }
    logger.info(
        "rasters are read as in training, which replaces dataset.rgb, stretch and gsd: %s",
        view.describe(),
    )
    merged = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(dataset)), settings)
    assert isinstance(merged, DictConfig)
    return merged


def warn_of_other_view(images: object, view: View | None) -> None:
    """Warn if the rasters of a label store are read otherwise than in training.

    The index maps of a store have the grid of its view, so it cannot be read with another one.

    Args:
        images: the image set to be scored.
        view: view of the checkpoint; None: it was not trained on rasters.
    """
    if view is None or not isinstance(images, StoredLabels) or not images.view:
        return
    stored = View.from_json(images.view)
    if stored != view:
        logger.warning(
            "%s is read as it was labelled (%s), but the model was trained on %s; label the "
            "rasters with the same dataset.rgb, stretch and gsd for comparable scores",
            *(images.name, stored.describe(), view.describe()),
        )
