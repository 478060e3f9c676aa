"""Bands of image sets: their names, and their mean and standard deviation over a collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from alps.errors import ImageError
from alps.protocols import ImageSet
from alps.structures.bands import BandStatistics, describe_bands, to_float
from alps.structures.records import ImageRecord, Sample

logger = logging.getLogger(__name__)

#: Maximum number of images, and of pixels of an image, from which statistics are computed.
MAX_IMAGES, MAX_PIXELS = 256, 1 << 16
#: Standard deviation relative to the mean below which a band is constant in float32.
CONSTANT = 1e-6


def band_names(images: object) -> tuple[str, ...] | None:
    """Return the names of the bands of an image set (`BandedSet`); None: RGB."""
    names = getattr(images, "band_names", None)
    return None if names is None else tuple(names)


def check_sample(sample: Sample, names: Sequence[str]) -> None:
    """Check the number of bands of an image.

    Raises:
        ImageError: the image does not have one band per name.
    """
    n = 0 if sample.bands is None else len(sample.bands)
    if n != len(names):
        raise ImageError(
            f"image {sample.image_id} has {n} bands, expected {len(names)} ({', '.join(names)}); "
            "correct the image, or dataset.bands"
        )


def measure_bands(
    images: Sequence[tuple[ImageSet, ImageRecord]], names: Sequence[str]
) -> BandStatistics:
    """Compute the mean and the standard deviation of each band.

    They come from the valid pixels of at most `MAX_IMAGES` images, evenly spread over the list, and
    of these from every n-th row and column, at most about `MAX_PIXELS` pixels. The result depends
    only on the arguments. A band with one value gets the standard deviation 1.

    Args:
        images: images with the set that reads them.
        names: names of the bands.

    Returns:
        The statistics in stored units.

    Raises:
        ImageError: none of the images can be read, or none has a valid pixel.
    """
    n = 0
    mean, squares = np.zeros(len(names)), np.zeros(len(names))
    problem = "no pixel has data"
    sample_of_images = images[:: max(1, -(-len(images) // MAX_IMAGES))]
    for image_set, record in tqdm(
        sample_of_images, "statistics of bands", unit="image", delay=1, leave=False
    ):
        try:
            sample = image_set.read(record)
            check_sample(sample, names)
        except ImageError as error:  # logged when the image is used
            problem = str(error)
            continue
        assert sample.bands is not None
        step = max(1, int(np.ceil((sample.size[0] * sample.size[1] / MAX_PIXELS) ** 0.5)))
        valid = None if sample.valid is None else sample.valid[::step, ::step]
        values, valid = to_float(sample.bands[:, ::step, ::step], valid, [0] * len(names))
        pixels = values.reshape(len(names), -1) if valid is None else values[:, valid]
        if not (k := pixels.shape[1]):
            continue
        # Chan et al. 1979: exact for values that are large compared with their spread.
        pixels = pixels.astype(np.float64)
        difference = pixels.mean(axis=1) - mean
        squares += pixels.var(axis=1) * k + difference**2 * (n * k / (n + k))
        mean += difference * (k / (n + k))
        n += k
    if not n:
        raise ImageError(
            f"the mean of {describe_bands(names)} cannot be computed from "
            f"{len(sample_of_images)} training images: {problem}; check the images and "
            "dataset.bands"
        )
    std = np.sqrt(squares / n)
    constant = std <= CONSTANT * np.abs(mean)
    if constant.any():
        listed = ", ".join(name for name, flat in zip(names, constant, strict=True) if flat)
        logger.warning("bands with a single value, from which nothing is learned: %s", listed)
    std[constant] = 1
    statistics = BandStatistics(tuple(names), tuple(mean.tolist()), tuple(std.tolist()))
    logger.info(
        "mean and standard deviation over %d images: %s",
        len(sample_of_images),
        ", ".join(f"{b} {m:.5g} ± {s:.5g}" for b, m, s in zip(names, mean, std, strict=True)),
    )
    return statistics
