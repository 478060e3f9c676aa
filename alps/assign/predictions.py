"""The folder of predictions that ``train.py stage=predict`` writes, read by image or window."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from alps.errors import ConfigError, ImageError, LabelError
from alps.images.files.labels import read_labels
from alps.protocols import ImageSet
from alps.rasters.index_map import read_index_map
from alps.structures.output import probability_file
from alps.structures.records import Category, ImageRecord
from alps.structures.windows import raster_id

#: Suffixes of index maps and of their probabilities.
SUFFIXES = (".png", ".tif")


class Prediction(NamedTuple):
    """The predicted class of each pixel of an image."""

    labels: Integer[np.ndarray, "H W"]
    # Probability of this class, 1 to 255; 0 is no data. None: the folder has no probabilities.
    probability: Integer[np.ndarray, "H W"] | None


class Predictions:
    """Index maps of the images of an image set, and their probabilities if there are some.

    The map of an image is named after the id of the image or after its file below the root of the
    image set. The windows of a raster are parts of the map of the raster.

    Args:
        folder: the folder.
        images: the images.

    Raises:
        ConfigError: the folder contains no predictions.
    """

    def __init__(self, folder: str, images: ImageSet) -> None:
        self.folder = Path(folder)
        self.categories = _read_categories(self.folder)
        self._images = images

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._maps

    def missing(self) -> list[str]:
        """Return the ids of the images that have no prediction."""
        return [image_id for image_id in self.records if image_id not in self]

    @cached_property
    def records(self) -> Mapping[str, ImageRecord]:
        """The images by id."""
        return {record.image_id: record for record in self._images.records()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the classes and of the predictions of all images, wherever the folder is."""
        maps = {*self._maps.values()}  # the windows of a raster share one
        probabilities = {path for path in map(probability_file, maps) if path.is_file()}
        content = [[category.id, category.name] for category in self.categories]
        for path in sorted(maps | probabilities):
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            content.append([path.relative_to(self.folder).as_posix(), sha256])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def read(self, image_id: str, size: tuple[int, int]) -> Prediction:
        """Read the prediction of an image.

        Args:
            image_id: id of an image that has a prediction.
            size: (H, W) of the image, px.

        Returns:
            The classes and their probabilities.

        Raises:
            LabelError: a file cannot be read or has a different size.
        """
        path = self._maps[image_id]
        files = [file for file in (path, probability_file(path)) if file.is_file()]
        labels, *probability = (self._read(image_id, file, size) for file in files)
        return Prediction(labels, probability[0] if probability else None)

    def _read(self, image_id: str, path: Path, size: tuple[int, int]) -> Integer[np.ndarray, "H W"]:
        window = self.records[image_id].window
        try:
            values = read_labels(path) if window is None else read_index_map(path, window)
        except ImageError as error:
            raise LabelError(str(error)) from error
        if values.shape != size:
            raise LabelError(
                f"{image_id} has (height, width) = {size}, but its prediction {path} has "
                f"{values.shape}; predict the same images, at the resolution of the store"
            )
        return values

    @cached_property
    def _maps(self) -> Mapping[str, Path]:
        """The index map of each image that has one, by image id.

        Raises:
            ConfigError: no image has one.
        """
        maps = {}
        for image_id, record in self.records.items():
            named = image_id if record.window is None else raster_id(image_id)
            names = (named, str(PurePosixPath(record.file_name).with_suffix("")))
            paths = (self.folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
            if path := next((path for path in paths if path.is_file()), None):
                maps[image_id] = path
        if not maps:
            raise ConfigError(
                f"{self.folder} has no prediction of the {len(self.records)} images in "
                f"{self._images.root} (looked for {named}.png and .tif); predict them with python "
                f"train.py stage=predict ckpt=FILE input={self._images.root} output={self.folder}"
            )
        return maps


def _read_categories(folder: Path) -> list[Category]:
    """Return the classes of a folder of predictions; raise `ConfigError` if there are none."""
    path = folder / "categories.json"
    try:
        return [
            Category(row["id"], row["name"], tuple(row["color"]))
            for row in json.loads(path.read_text())
        ]
    except FileNotFoundError as error:
        raise ConfigError(
            f"assign.predictions={folder}: there is no {path}; expected a folder that python "
            "train.py stage=predict has written"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error!r}), expected id, name and color of each class; repeat "
            "stage=predict in a new folder"
        ) from error
