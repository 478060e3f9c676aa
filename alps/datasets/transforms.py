"""Random augmentation of an image and its target: scale, crop, flips, rotations, colours."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Integer, UInt8
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from alps.structures.bands import BandStatistics

#: Maximum changes of brightness, contrast and saturation (factors 1 ± value), and of hue (turns).
JITTER = (0.3, 0.3, 0.3, 0.05)
#: Maximum changes of bands: of the contrast (a factor 1 ± value), and offsets of all bands together
#: and of each band, in standard deviations of the band. The last is small, because the ratios
#: between bands identify materials.
BAND_JITTER = (0.3, 0.3, 0.1)
#: Maximum number of windows to draw until no class dominates; the last one is then used.
MAX_WINDOWS = 10
#: RGB to luma and two chroma axes (NTSC's YIQ). Gray has no chroma, so a change of hue keeps it.
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


class TrainTransform:
    """Scale, crop, flip, rotate and recolour an image at random; the result has its dtype.

    A random window of the source image is resized. This equals resizing the image and then cropping
    it, except that the window is rounded to source pixels, and is much faster. An image smaller
    than the crop is placed at random on a background of ``fill``, whose target is ignored. All
    random numbers come from torch's default generator.

    Args:
        crop: height and width of the result, in pixels.
        scale: minimum and maximum of the scale factor, which is uniformly distributed.
        scale_p: probability of scaling.
        flip_p: probability of each of the two flips.
        rot90: whether to rotate by a random multiple of 90°, as is valid for overhead images.
        photometric_p: probability of changing the colours within `JITTER`, or the values of bands
            within `BAND_JITTER`.
        cat_max_ratio: maximum fraction of a window's labelled pixels in one class; otherwise a new
            window is drawn, up to `MAX_WINDOWS` times (as in mmsegmentation's ``RandomCrop``).
        fill: RGB value of the padding; the default is ImageNet's mean, which is normalised to 0.
        ignore_index: target value of the padding.
        ignore_border: pixels of the source image at most this many pixels away from a pixel of
            another class are ignored, as the borders of masks are imprecise; 0: none.
        statistics: of the bands of the images, whose means replace ``fill``; None: RGB.
    """

    def __init__(
        self,
        *,
        crop: int,
        scale: Sequence[float] = (0.5, 2.0),
        scale_p: float = 1.0,
        flip_p: float = 0.5,
        rot90: bool = True,
        photometric_p: float = 0.5,
        cat_max_ratio: float = 0.75,
        fill: Sequence[int | float] = (124, 116, 104),
        ignore_index: int,
        ignore_border: int = 0,
        statistics: BandStatistics | None = None,
    ) -> None:
        self.crop = crop
        self.scale = scale
        self.scale_p = scale_p
        self.flip_p = flip_p
        self.rot90 = rot90
        self.photometric_p = photometric_p
        self.cat_max_ratio = cat_max_ratio
        self.fill = fill if statistics is None else statistics.mean
        self.ignore_index = ignore_index
        self.ignore_border = ignore_border
        self.statistics = statistics

    def __call__(
        self,
        image: UInt8[Tensor, "3 H W"] | Float32[Tensor, "C H W"],
        target: Integer[Tensor, "H W"],
    ) -> tuple[UInt8[Tensor, "3 S S"] | Float32[Tensor, "C S S"], Integer[Tensor, "S S"]]:
        """Return a random view of an image and its target, both ``crop`` × ``crop`` pixels."""
        image, target = self._scaled_crop(image, target)
        if _chance(self.photometric_p):
            image = _jitter(image) if self.statistics is None else self._jitter_bands(image)
        image, target = self._pad(image, target)
        for axis in (-1, -2):
            if _chance(self.flip_p):
                image, target = image.flip(axis), target.flip(axis)
        if self.rot90:
            quarters = _randint(4)
            image, target = (torch.rot90(x, quarters, (-2, -1)) for x in (image, target))
        return image, target

    def _scaled_crop(
        self,
        image: UInt8[Tensor, "3 H W"] | Float32[Tensor, "C H W"],
        target: Integer[Tensor, "H W"],
    ) -> tuple[UInt8[Tensor, "3 h w"] | Float32[Tensor, "C h w"], Integer[Tensor, "h w"]]:
        """Return a random scaled window of at most ``crop`` × ``crop`` pixels."""
        ratio = _uniform(*self.scale) if _chance(self.scale_p) else 1.0
        side = max(1, round(self.crop / ratio))  # side of the window in source pixels
        height, width = (min(side, length) for length in target.shape)
        for _ in range(MAX_WINDOWS):
            top = _randint(target.shape[0] - height + 1)
            left = _randint(target.shape[1] - width + 1)
            window = (..., slice(top, top + height), slice(left, left + width))
            if self._is_mixed(target[window]):
                break
        image, target = image[window], target[window]
        if self.ignore_border:
            borders = class_borders(target, self.ignore_index, self.ignore_border)
            target = target.masked_fill(borders, self.ignore_index)
        size = [max(1, round(length * self.crop / side)) for length in (height, width)]
        if size != [height, width]:
            # torchvision's mask kernel uses "nearest", which is shifted by half a pixel.
            nearest = InterpolationMode.NEAREST_EXACT
            image = F.resize(image, size, antialias=True)
            target = F.resize(target[None], size, interpolation=nearest)[0]
        return image, target

    def _is_mixed(self, target: Integer[Tensor, "h w"]) -> bool:
        if self.cat_max_ratio >= 1:
            return True
        sample = target[::4, ::4]  # every fourth row and column is sufficient
        counts = torch.bincount(sample[sample != self.ignore_index])
        return bool((counts <= self.cat_max_ratio * counts.sum()).all()) and counts.numel() > 0

    def _pad(
        self,
        image: UInt8[Tensor, "3 h w"] | Float32[Tensor, "C h w"],
        target: Integer[Tensor, "h w"],
    ) -> tuple[UInt8[Tensor, "3 S S"] | Float32[Tensor, "C S S"], Integer[Tensor, "S S"]]:
        height, width = target.shape
        if (height, width) == (self.crop, self.crop):
            return image, target
        top, left = _randint(self.crop - height + 1), _randint(self.crop - width + 1)
        borders = [left, top, self.crop - width - left, self.crop - height - top]
        image = F.pad(image, borders, fill=list(self.fill))
        return image, F.pad(target[None], borders, fill=self.ignore_index)[0]

    def _jitter_bands(self, image: Float32[Tensor, "C h w"]) -> Float32[Tensor, "C h w"]:
        """Change the values at random, within `BAND_JITTER`."""
        # Relative to the mean and the standard deviation of each band, because hue and saturation
        # are defined for RGB only, and 0 may be any value of a band (heights, dB).
        assert self.statistics is not None
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in (self.statistics.mean, self.statistics.std)
        )
        contrast, together, each = BAND_JITTER
        factor = _uniform(1 - contrast, 1 + contrast)
        offset = _uniform(-together, together) + each * (2 * torch.rand(len(image), 1, 1) - 1)
        return factor * (image - mean) + mean + offset * std


def _jitter(image: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    """Change the colours at random, within `JITTER`."""
    brightness, contrast, saturation = (_uniform(1 - width, 1 + width) for width in JITTER[:3])
    hue = _uniform(-JITTER[3], JITTER[3])
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    matrix = color_matrix(pixels, brightness, contrast, saturation, hue)
    return torch.from_numpy(cv2.transform(pixels, matrix)).permute(2, 0, 1)


def color_matrix(
    image: UInt8[np.ndarray, "H W 3"],
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> Float64[np.ndarray, "3 4"]:
    """Return the four changes of torchvision's ``ColorJitter`` as one affine map of RGB.

    The changes commute, because saturation and hue preserve luma and gray, and contrast is relative
    to the mean luma of ``image``. A single map rounds and clips only once, and takes a hundredth of
    the time of ``adjust_hue``, which converts to HSV. Unlike in torchvision, hue is a rotation of
    the chroma, as in CSS's ``hue-rotate``.

    Args:
        image: the image; contrast is relative to its mean luma.
        brightness: factor on all values.
        contrast: factor on the distance to the mean luma.
        saturation: factor on the chroma.
        hue: rotation of the chroma, in turns.

    Returns:
        The matrix of the affine map, with the offset in the last column.
    """
    angle = 2 * np.pi * hue
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    chroma = np.diag([1, saturation, saturation])
    linear = brightness * contrast * np.linalg.inv(YIQ) @ chroma @ turn @ YIQ
    offset = brightness * (1 - contrast) * YIQ[0] @ cv2.mean(image)[:3]
    return np.column_stack([linear, np.full(3, offset)])


def class_borders(
    target: Integer[Tensor, "H W"], ignore_index: int, distance: int
) -> Bool[Tensor, "H W"]:
    """Return the labelled pixels near a pixel of another class.

    Args:
        target: class ids, at most 65534.
        ignore_index: value of unlabelled pixels, which are not a class of their own: the edge of
            the labels is no border.
        distance: maximum distance along both axes, in pixels.
    """
    labels = target.numpy()
    labelled = labels != ignore_index
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # Unlabelled pixels must not be the lowest or the highest class around a labelled pixel.
    lowest = cv2.erode(np.where(labelled, labels, 65535).astype(np.uint16), square)
    highest = cv2.dilate(np.where(labelled, labels, 0).astype(np.uint16), square)
    return torch.from_numpy(labelled & (lowest != highest))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _chance(p: float) -> bool:
    return torch.rand(()).item() < p


def _randint(n: int) -> int:
    """Return a random integer from 0 to n - 1."""
    return int(torch.randint(n, ()))
