"""Statistics of bands, and examples that have bands."""

import numpy as np
import pytest
import torch

from alps.datasets.bands import MAX_IMAGES, measure_bands
from alps.datasets.segmentation import SegmentationDataset
from alps.datasets.transforms import BAND_JITTER, TrainTransform
from alps.errors import ImageError
from alps.structures.bands import BandStatistics
from alps.structures.records import Sample
from tests.datasets.labelled_arrays import LabelledArrays, random_pairs

NAMES = ("near infrared", "height")


class BandedArrays(LabelledArrays):
    """Images with two bands, which `bands` holds by image id."""

    band_names = NAMES

    def read(self, record):
        image = np.zeros((*self.bands[record.image_id].shape[1:], 3), np.uint8)
        valid = self.valid.get(record.image_id)
        return Sample(record.image_id, image, valid=valid, bands=self.bands[record.image_id])


def banded(n=3, size=(12, 16), dtype=np.float32, offset=1e5):
    rng = np.random.default_rng(0)
    images = BandedArrays(random_pairs(n, size).pairs)
    images.bands = {
        name: (rng.random((2, *size)) * 90 + offset).astype(dtype) for name in images.pairs
    }
    return images


def measure(images):
    return measure_bands([(images, record) for record in images.records()], NAMES)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_statistics_are_those_of_all_valid_pixels(dtype):
    images = banded(dtype=dtype, offset=0 if dtype == np.uint8 else 20_000)
    valid = np.ones((12, 16), bool)
    valid[:, :5] = False
    images.valid["image_1"] = valid
    images.bands["image_1"][:, :, :5] = 0
    if np.dtype(dtype).kind == "f":
        images.bands["image_2"][1, 3] = np.nan
        images.bands["image_1"][0, 0, 0] = -1e308 if dtype == np.float64 else 0
    pixels = np.concatenate(
        [
            bands[:, (valid if name == "image_1" else True) & np.isfinite(bands).all(0)]
            for name, bands in images.bands.items()
        ],
        axis=1,
    ).astype(np.float64)
    statistics = measure(images)
    assert statistics.mean == pytest.approx(pixels.mean(1))
    assert statistics.std == pytest.approx(pixels.std(1))


def test_statistics_come_from_images_of_the_whole_list():
    images = banded(n=MAX_IMAGES + 4, size=(2, 2))
    assert measure(images).mean == pytest.approx(
        np.mean([b.mean((1, 2)) for b in [*images.bands.values()][::2]], axis=0)
    )


def test_a_band_with_one_value_is_reported(caplog):
    images = banded()
    for bands in images.bands.values():
        bands[0] = 7.7
    assert measure(images).std[0] == 1
    assert "bands with a single value, from which nothing is learned: near infrared" in caplog.text


def test_images_without_data_are_an_error():
    images = banded()
    for bands in images.bands.values():
        bands[1] = np.nan
    with pytest.raises(ImageError, match=r"from 3 training images: no pixel has data; check"):
        measure(images)
    images.bands = {name: bands[:1] for name, bands in images.bands.items()}
    message = r"image image_2 has 1 bands, expected 2 \(near infrared, height\)"
    with pytest.raises(ImageError, match=message):
        measure(images)


def test_pixels_without_data_are_the_mean_and_ignored():
    images = banded()
    images.bands["image_0"][1, 2:4] = np.inf
    statistics = BandStatistics(NAMES, (3.0, 4.0), (1.0, 1.0))
    example = SegmentationDataset(images, images.records(), statistics=statistics)[0]
    assert example.image.dtype == torch.float32
    assert (example.target[2:4] == images.ignore_index).all()
    assert (example.image[0, 2:4] == 3).all()
    assert (example.image[1, 2:4] == 4).all()
    assert example.image[:, 4:].equal(torch.from_numpy(images.bands["image_0"][:, 4:]))
    assert example.rgb.shape == (3, 12, 16)
    del images.bands["image_1"]
    images.bands["image_1"] = np.zeros((3, 12, 16), np.float32)
    with pytest.raises(ImageError, match="image image_1 has 3 bands, expected 2"):
        SegmentationDataset(images, images.records(), statistics=statistics)[1]


def statistics_of(n, scale=1.0):
    std = [scale * (i + 1) for i in range(n)]
    return BandStatistics(tuple(map(str, range(n))), tuple(1000 * s for s in std), tuple(std))


@pytest.mark.parametrize("n", [1, 2, 5, 13])
@pytest.mark.parametrize("size", [(96, 96), (20, 30)])
def test_bands_and_target_are_transformed_alike(n, size):
    """Every band is the target, in its own units, also where both are padded."""
    statistics = statistics_of(n)
    transform = TrainTransform(
        crop=48, scale_p=0.0, photometric_p=0.0, ignore_index=255, statistics=statistics
    )
    target = torch.randint(0, 4, size, dtype=torch.uint8)
    factors = torch.arange(1.0, n + 1)[:, None, None]
    image, target = transform(target * factors, target)
    assert image.shape == (n, 48, 48)
    padding = (target == 255).expand_as(image)
    assert image[~padding].equal((target * factors)[~padding])
    assert image[padding].equal(
        torch.tensor(statistics.mean)[:, None, None].expand_as(image)[padding]
    )


def test_values_change_relative_to_the_units_of_a_band():
    """An image of other units gets the same augmentation, in these units."""
    results = []
    for scale in (1.0, 100.0):
        torch.manual_seed(0)
        transform = TrainTransform(
            crop=32, photometric_p=1.0, ignore_index=255, statistics=statistics_of(3, scale)
        )
        mean, std = (
            torch.tensor(v)[:, None, None]
            for v in (transform.statistics.mean, transform.statistics.std)
        )
        image = mean + std * torch.randn(3, 32, 32)
        result, _ = transform(image, torch.arange(1024).reshape(32, 32).int() % 4)
        results.append((result - mean) / std)
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-2)
    assert (results[0].std((1, 2)) > 1 - BAND_JITTER[0] - 0.3).all()
    assert (results[0].mean((1, 2)).abs() < BAND_JITTER[1] + BAND_JITTER[2] + 0.2).all()
