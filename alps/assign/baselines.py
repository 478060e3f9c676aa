"""Baselines: classes that do not depend on the content of a mask."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer

from alps.assign.cluster import cluster_categories
from alps.assign.limits import LIMITS
from alps.protocols import Identity, Mapper
from alps.structures.masks import Masks
from alps.structures.paint import fill_uncovered, paint
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, Clusters
from alps.structures.settings import check_attributes


class Fixed:
    """Base of the assigners whose classes do not depend on the features."""

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]],
        mapper: Mapper = map,
    ) -> Clusters | None:
        """Return None: there is nothing to fit.

        Args:
            blocks: not used.
            areas: not used.
            mapper: not used.
        """
        return None


class Random(Fixed):
    """Assigns one of K classes to each mask at random.

    Args:
        k: number of classes, K.
        seed: random seed, which is combined with the id of each image.
        fill: uncovered pixels within this distance of a mask get its class, in pixels.
    """

    def __init__(self, *, k: int = 46, seed: int = 0, fill: int = 0) -> None:
        self.k, self.seed, self.fill = k, seed, fill
        check_attributes(LIMITS["alps.assign.Random"], self)

    @property
    def identity(self) -> Identity:
        """Settings that affect the classes."""
        return {"assigner": "random", "version": 1, **vars(self)}

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return self.k

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None = None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Return random classes, and NaN as distances.

        The classes depend only on the seed and ``image_id``, not on the order of the images.

        Args:
            features: one row per mask; only the number of rows matters.
            clusters: not used.
            image_id: id of the image.
            masks: not used.

        Returns:
            The class of each mask, and NaN for each mask.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(image_id.encode())])
        n = len(features)
        return rng.integers(self.k, size=n, dtype=np.int32), np.full(n, np.nan, np.float32)

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Paint small masks over large ones, then fill uncovered pixels near a mask.

        Args:
            masks: masks of one image.
            category_id: class of each mask.
            ignore_index: value of uncovered pixels.

        Returns:
            The class of each pixel.
        """
        index_map = paint(masks, category_id, ignore_index)
        return fill_uncovered(index_map, masks, self.fill)

    def categories(self) -> list[Category]:
        """Return K numbered classes."""
        return cluster_categories(self.k)


class Binary(Fixed):
    """Two classes: 0 for all masks, 1 for uncovered pixels. No pixel is unlabelled."""

    @property
    def identity(self) -> Identity:
        """Name and version; there are no settings."""
        return {"assigner": "binary", "version": 1}

    @property
    def num_classes(self) -> int:
        """Number of classes, 2: mask and ground."""
        return 2

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None = None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Return class 0 for every mask, and NaN as distances.

        Args:
            features: one row per mask; only the number of rows matters.
            clusters: not used.
            image_id: not used.
            masks: not used.

        Returns:
            The class 0 and NaN for each mask.
        """
        n = len(features)
        return np.zeros(n, np.int32), np.full(n, np.nan, np.float32)

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Paint masks as 0 and uncovered pixels as 1.

        Args:
            masks: masks of one image.
            category_id: class of each mask.
            ignore_index: value of uncovered pixels, which class 1 replaces.

        Returns:
            The class of each pixel.
        """
        index_map = paint(masks, category_id, ignore_index)
        index_map[index_map == ignore_index] = 1
        return index_map

    def categories(self) -> list[Category]:
        """Return the classes ``mask`` and ``ground``."""
        names = ("mask", "ground")
        return [
            Category(id=i, name=name, color=color)
            for i, (name, color) in enumerate(zip(names, distinct_colors(2), strict=True))
        ]
