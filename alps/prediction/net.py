"""A trained model that predicts index maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8, UInt16
from lightning.fabric import Fabric
from numpy.typing import NDArray

from alps.errors import ConfigError, ImageError
from alps.models.segmentation import SegmentationModel
from alps.prediction.device import choose_accelerator, choose_precision
from alps.prediction.files import Counts, Predictor
from alps.prediction.sliding import BUFFER, SlidingWindow
from alps.rasters.view import View
from alps.structures.bands import describe_bands, to_float
from alps.structures.paint import ignore_index_for
from alps.structures.records import Category


class Net:
    """A trained model with its classes and the settings of prediction.

    `alps.fit` and `alps.load_net` return it.

    Args:
        model: the trained model, which is moved to the device.
        categories: classes of the model, in the order of its logits.
        window: sliding window for large images. The attribute may be replaced, for example to
            increase the overlap.
        weights: SHA-256 of the weights, which `predict_files` records.
        view: how the rasters of the training set were read; TIFF and JPEG 2000 files are read
            likewise. None: with the defaults.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``auto`` (bf16-mixed on GPUs that support it), or a precision of Lightning.

    Raises:
        ConfigError: a GPU is requested, but there is none.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        categories: Sequence[Category],
        window: SlidingWindow,
        weights: str,
        view: View | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        accelerator = choose_accelerator(device)
        # Any, because Lightning types it as a Literal.
        options: dict[str, Any] = {"precision": choose_precision(precision, accelerator)}
        fabric = Fabric(accelerator=accelerator, devices=1, **options)
        self.model = model
        self.categories = tuple(categories)
        self.window = window
        self.weights = weights
        self.view = view
        self.device: torch.device = fabric.device
        self._module = fabric.setup_module(model.eval())

    def __repr__(self) -> str:
        return (
            f"Net(encoder={self.model.encoder.name!r}, head={type(self.model.head).__name__!r}, "
            f"classes={len(self.categories)}, device={str(self.device)!r})"
        )

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of the bands that the model sees, in this order; None: RGB."""
        return self.model.band_names

    @property
    def ignore_index(self) -> int:
        """Value of pixels without data: 255, or 65535 for more than 255 classes."""
        return ignore_index_for(len(self.categories))

    def predict(
        self, image: NDArray[Any] | str | Path
    ) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Predict the class of each pixel of one image.

        Args:
            image: RGB array (H, W, 3) of uint8, or the path of an image. If the model has
                ``band_names``: array (C, H, W) of the bands in this order, of any number type and
                in the units of the training images, in which NaN is no data; or the path of a TIFF
                or JPEG 2000 file, whose bands are found by description or number.

        Returns:
            The index map: ids of ``categories``, and ``ignore_index`` for pixels without data. A
            raster is resampled if ``view`` has a ground sampling distance.

        Raises:
            ConfigError: the path is a folder.
            ImageError: the array has the wrong type or shape, or the file cannot be used.
        """
        if isinstance(image, str | Path):
            if Path(image).is_dir():
                raise ConfigError(
                    f"{image} is a folder, expected one image; predict_files(folder, target) "
                    "writes the index maps of all its images"
                )
            return self._predictor.file(Path(image))
        array = np.asarray(image)
        if self.band_names is not None:
            return self._predict_bands(array, self.band_names)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise ImageError(
                f"the image is an array of {array.dtype} {array.shape}, expected uint8 (H, W, 3) "
                "in RGB; convert it, or pass the path of a file, which may have any bit depth"
            )
        # PyTorch needs a copy of read-only arrays and of views like bgr[..., ::-1].
        return self._predictor.array(np.require(array, requirements=["C", "W"]))

    def _predict_bands(
        self, array: NDArray[Any], names: Sequence[str]
    ) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Predict an array of bands; raise `ImageError` if it has the wrong type or shape."""
        numeric = array.dtype.kind in "uif"
        if not numeric or array.ndim != 3 or len(array) != len(names) or not array.size:
            raise ImageError(
                f"the image is an array of {array.dtype} {array.shape}, expected numbers "
                f"({len(names)}, H, W): {describe_bands(names)}; select these bands in this order, "
                "or pass the path of a file"
            )
        predictor = self._predictor
        values, valid = to_float(array, None, predictor.window.fill)
        return predictor.bands(values, valid)

    def predict_files(
        self,
        source: str | Path,
        target: str | Path,
        *,
        vector: str | None = None,
        probability: bool = False,
    ) -> Counts:
        """Write the index maps of an image or a folder of images.

        Images that have an index map are skipped, so a repeated call resumes.

        Args:
            source: an image, or a folder that is searched recursively.
            target: folder of the index maps, which get the relative paths of the images.
            vector: format of polygons of the predicted regions, which are written beside each
                GeoTIFF: gpkg, geoparquet, geojson or flatgeobuf. None: no polygons.
            probability: write the probability of the predicted class beside each index map.

        Returns:
            The numbers of written, kept and skipped files.

        Raises:
            ConfigError: ``target`` lies in ``source``, cannot be written, or contains predictions
                with different weights, classes, windows or views.
            DatasetNotFound: there is no image.
            ImageError: none of the images can be used.
        """
        predictor = replace(self._predictor, vector=vector, probability=probability)
        return predictor(source, target)

    @property
    def _predictor(self) -> Predictor:
        window, statistics = self.window, self.model.statistics
        return Predictor(
            net=lambda image: self._module(image).logits,
            window=window if statistics is None else replace(window, fill=statistics.mean),
            band_names=self.band_names,
            categories=self.categories,
            weights=self.weights,
            view=self.view,
            divisor=self.model.encoder.divisor,
            device=self.device,
            buffer=BUFFER // len(self.categories),
        )
