"""Sliding-window prediction of class probabilities for images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, fields
from itertools import groupby, islice, product
from typing import Any

import torch
from jaxtyping import Float, Float32, Integer, Shaped
from torch import Tensor
from torch.nn import functional as F

from alps.prediction.limits import LIMITS
from alps.structures.settings import check_attributes
from alps.structures.tiles import Tile, cut_tiles

#: Maps images, RGB from 0 to 255 or bands as stored, to logits of the same height and width.
Forward = Callable[[Shaped[Tensor, "B C H W"]], Float[Tensor, "B K H W"]]

#: Number of probabilities of a large image in memory at a time, 4 bytes each.
BUFFER = 1 << 27

#: Standard deviation of the Gaussian as a fraction of the window (nnU-Net, Isensee et al. 2021).
SIGMA = 1 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Predicts an image in windows and averages the probabilities of overlapping windows.

    Probabilities are averaged rather than logits, because the window with the largest logits would
    dominate the mean.

    An image that fits in one window is predicted in one pass.

    Args:
        crop: side of a window in pixels, usually that of the training crops.
        overlap: minimum overlap of neighbouring windows, as a fraction of the crop. Windows are
            spaced evenly (`cut_tiles`), so none extends beyond the image.
        blend: "gaussian" weights the centre of a window most, where the model has context on all
            sides; "mean" weights all pixels of a window equally.
        batch_size: number of windows per forward pass.
        scales: factors by which each window is resized; the probabilities are averaged over the
            factors. A factor of 2 takes four times the memory.
        flip: whether to average the probabilities of each window and its mirror image.
        fill: RGB colour, or value of each band, of the padding at the right and lower edge, as in
            training.

    Raises:
        ConfigError: a value is out of range.
    """

    crop: int
    overlap: float = 0.5
    blend: str = "gaussian"
    batch_size: int = 8
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    fill: Sequence[int | float] = (124, 116, 104)

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.prediction.SlidingWindow"], self)

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that affect the result: all except ``batch_size``."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        del settings["batch_size"]
        return {k: v if isinstance(v, int | float | str) else [*v] for k, v in settings.items()}

    @torch.no_grad()
    def __call__(
        self, net: Forward, images: Sequence[Shaped[Tensor, "C _ _"]], divisor: int = 32
    ) -> list[Float32[Tensor, "K _ _"]]:
        """Return the class probabilities of whole images.

        Windows of the same size form batches, also across consecutive images.

        Args:
            net: maps images to logits of the same height and width.
            images: images (C, H, W) on the device of the model.
            divisor: side in pixels; windows are padded to multiples of it.

        Returns:
            Probabilities (K, H, W) of each image.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        windows = [self.windows(size) for size in sizes]
        crops: Iterable[Tensor | None] = (
            image[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
            for image, tiles in zip(images, windows, strict=True)
            for tile in tiles
        )
        probabilities = self._probabilities(net, crops, divisor)
        return [
            torch.cat(
                [
                    part
                    for _, part in self._blend(probabilities, tiles, (0, width))
                    if part is not None  # never: all windows are predicted
                ],
                dim=1,
            )
            for (_, width), tiles in zip(sizes, windows, strict=True)
        ]

    @torch.no_grad()
    def bands(
        self,
        net: Forward,
        read: Callable[[Tile], Shaped[Tensor, "C h w"] | None],
        size: tuple[int, int],
        *,
        divisor: int = 32,
        buffer: int = 1 << 22,
    ) -> Iterator[tuple[Tile, Float32[Tensor, "K _ _"] | None]]:
        """Yield the class probabilities of an image of any size, in parts that cover it once.

        The image is divided into vertical strips, in which windows are predicted from top to
        bottom. Rows are yielded when no later window covers them. The parts are identical to a
        prediction of the whole image if the output for a window does not depend on the rest of its
        batch. Only windows that span two strips are predicted twice.

        Args:
            net: maps images to logits of the same height and width.
            read: returns the pixels of a window, or None for a window without data, which is not
                predicted.
            size: (H, W) of the image.
            divisor: side in pixels; windows are padded to multiples of it.
            buffer: number of pixels whose probabilities are in memory at a time; the width of a
                strip is ``buffer / crop``.

        Yields:
            A part of the image as a tile, and its probabilities (K, h, w): 0 where all windows
            are without data, and None if this is the whole part.
        """
        windows = self.windows(size)
        strip = max(buffer // self.crop, 1)
        for x0 in range(0, size[1], strip):
            x1 = min(x0 + strip, size[1])
            tiles = [tile for tile in windows if tile.x0 < x1 and tile.x1 > x0]
            probabilities = self._probabilities(net, map(read, tiles), divisor)
            yield from self._blend(probabilities, tiles, (x0, x1))

    def windows(self, size: tuple[int, int]) -> list[Tile]:
        """Return the windows of an image of ``size`` (H, W), row by row."""
        return cut_tiles(size, self.crop, int(self.crop * self.overlap))

    def _probabilities(
        self, net: Forward, crops: Iterable[Shaped[Tensor, "C _ _"] | None], divisor: int
    ) -> Iterator[Float32[Tensor, "K _ _"] | None]:
        for shape, equal in groupby(crops, key=lambda crop: None if crop is None else crop.shape):
            if shape is None:
                yield from equal
                continue
            while batch := [crop for crop in islice(equal, self.batch_size) if crop is not None]:
                yield from self._average(net, torch.stack(batch), divisor)

    def _average(
        self, net: Forward, batch: Shaped[Tensor, "B C H W"], divisor: int
    ) -> Float32[Tensor, "B K H W"]:
        """Return the probabilities of a batch of windows, averaged over scales and flips."""
        size = batch.shape[2:]
        views = list(product(self.scales, (False, True) if self.flip else (False,)))
        total = torch.zeros((), device=batch.device)
        for scale, mirrored in views:
            view = _resize(batch, [max(1, round(side * scale)) for side in size])
            height, width = view.shape[2:]
            view = self._pad(view.flip(3) if mirrored else view, divisor)
            result = net(view)[..., :height, :width].float().softmax(dim=1)
            result = result.flip(3) if mirrored else result
            total = total + _resize(result, size)
        return total / len(views)

    def _pad(self, batch: Shaped[Tensor, "B C h w"], divisor: int) -> Shaped[Tensor, "B C H W"]:
        """Pad a batch at the right and lower edge to multiples of ``divisor``."""
        n, _, height, width = batch.shape
        padded = [-(-side // divisor) * divisor for side in (height, width)]
        if padded == [height, width]:
            return batch
        result = batch.new_tensor(list(self.fill))[:, None, None].repeat(n, 1, *padded)
        result[..., :height, :width] = batch
        return result

    def _blend(
        self,
        probabilities: Iterator[Float32[Tensor, "K _ _"] | None],
        windows: Sequence[Tile],
        strip: tuple[int, int],
    ) -> Iterator[tuple[Tile, Float32[Tensor, "K _ _"] | None]]:
        """Yield the weighted mean of the windows within a strip of columns, from top to bottom.

        The grid and the weights are products of rows and columns, and so are the normalised
        weights. The normalised weight of a window without overlap is exactly 1.
        """
        x0, x1 = strip
        rows = sorted({(tile.y0, tile.y1) for tile in windows})
        columns = sorted({(tile.x0, tile.x1) for tile in windows})
        ends = [*(top for top, _ in rows), windows[-1].y1][1:]
        weights = None
        total: Tensor | None = None  # None: no window has reached these rows
        filled = 0  # lowest row that a window has reached
        for (top, bottom), end in zip(rows, ends, strict=True):
            if total is not None:
                # The first rows already contain the sums of the windows above.
                total = F.pad(total, (0, 0, 0, bottom - top - total.shape[1]))
            for left, right in columns:
                window = next(probabilities)
                if window is None:
                    continue
                if weights is None:
                    weights = tuple(
                        self._normalised_weights({*spans}, window.device)
                        for spans in (rows, columns)
                    )
                if total is None:
                    total = window.new_zeros(len(window), bottom - top, x1 - x0)
                a, b = max(left, x0), min(right, x1)
                row, column = weights[0][top, bottom], weights[1][left, right]
                weight = torch.outer(row, column[a - left : b - left])
                total[:, :, a - x0 : b - x0] += window[:, :, a - left : b - left] * weight
                filled = bottom
            yield Tile(x0, top, x1, end), None if total is None else total[:, : end - top]
            total = total[:, end - top :] if total is not None and filled > end else None

    def _normalised_weights(
        self, spans: Set[tuple[int, int]], device: torch.device
    ) -> dict[tuple[int, int], Float32[Tensor, " n"]]:
        """Return the normalised weights of the windows along one axis, which sum to 1 per pixel."""
        weights = {(start, end): self._weights(end - start) for start, end in sorted(spans)}
        total = torch.zeros(max(end for _, end in spans))
        for (start, end), weight in weights.items():
            total[start:end] += weight
        return {
            (start, end): (weight / total[start:end]).to(device)
            for (start, end), weight in weights.items()
        }

    def _weights(self, length: int) -> Float32[Tensor, " n"]:
        """Return the weights of a window's pixels along one axis before normalisation."""
        if self.blend == "mean":
            return torch.ones(length)
        offset = (torch.arange(length) - (length - 1) / 2) / (SIGMA * length)
        return torch.exp(-(offset**2) / 2)


def most_probable(probabilities: Float[Tensor, "K H W"]) -> Integer[Tensor, "H W"]:
    """Return the most probable class of each pixel.

    The dtype is uint8 for up to 255 classes, so that 255 can mean no class, and int32 for more.
    """
    classes = probabilities.max(dim=0).indices  # six times as fast as argmax on a CPU
    return classes.to(torch.uint8 if len(probabilities) <= 255 else torch.int32)


def _resize(batch: Shaped[Tensor, "B C _ _"], size: Sequence[int]) -> Shaped[Tensor, "B C _ _"]:
    """Resize a batch to (H, W) bilinearly in float32; return it unchanged if it has that size."""
    if tuple(batch.shape[2:]) == tuple(size):
        return batch
    return F.interpolate(batch.float(), tuple(size), mode="bilinear", antialias=True)
