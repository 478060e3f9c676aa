"""Classes that know nothing of what a mask shows: what better ones must be compared with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer

from alps.assign.cluster import cluster_categories
from alps.protocols import Identity, Mapper
from alps.structures.masks import Masks
from alps.structures.numbers import check_number
from alps.structures.paint import fill_uncovered, paint
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, Clusters


class Fixed:
    """The part of an assigner that looks for classes in the features: here there is none."""

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]],
        mapper: Mapper = map,
    ) -> Clusters | None:
        """Nothing to find."""
        return None


class Random(Fixed):
    """Every mask gets one of K classes by lot: right outlines, wrong classes.

    Args:
        k: number of classes, K.
        seed: with the image's id it decides the classes of an image's masks.
        fill: px; bare ground this near to a mask gets its class.
    """

    def __init__(self, *, k: int = 46, seed: int = 0, fill: int = 0) -> None:
        check_number("assign.k", k, "[1, inf)", whole=True)
        check_number("assign.fill", fill, "[0, inf)", "whole pixels", whole=True)
        check_number("seed", seed, "[0, inf)", whole=True)
        self.k, self.seed, self.fill = k, seed, fill

    @property
    def identity(self) -> Identity:
        """The settings that change the classes."""
        return {"assigner": "random", "version": 1, **vars(self)}

    @property
    def num_classes(self) -> int:
        """K."""
        return self.k

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None = None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """The same for the same image and seed, in whatever order images come."""
        rng = np.random.default_rng([self.seed, zlib.crc32(image_id.encode())])
        n = len(features)
        return rng.integers(self.k, size=n, dtype=np.int32), np.full(n, np.nan, np.float32)

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """As clusters are painted."""
        index_map = paint(masks, category_id, ignore_index)
        return fill_uncovered(index_map, masks, self.fill)

    def categories(self) -> list[Category]:
        """One class per number."""
        return cluster_categories(self.k)


class Binary(Fixed):
    """Two classes: 0 is any mask, 1 is the ground that no mask covers. No pixel is unlabelled."""

    @property
    def identity(self) -> Identity:
        """There are no settings."""
        return {"assigner": "binary", "version": 1}

    @property
    def num_classes(self) -> int:
        """Mask and ground."""
        return 2

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None = None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Class 0 for all."""
        n = len(features)
        return np.zeros(n, np.int32), np.full(n, np.nan, np.float32)

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Bare ground is a class of its own, not ``ignore_index``."""
        index_map = paint(masks, category_id, ignore_index)
        index_map[index_map == ignore_index] = 1
        return index_map

    def categories(self) -> list[Category]:
        """What is painted as 0 and as 1."""
        names = ("mask", "ground")
        return [
            Category(id=i, name=name, color=color)
            for i, (name, color) in enumerate(zip(names, distinct_colors(2), strict=True))
        ]
