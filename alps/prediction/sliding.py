"""Class probabilities of images of any size, by a net that sees one window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, fields
from itertools import chain, groupby, islice, product
from typing import Any

import torch
from jaxtyping import Float, Float32, Integer, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from alps.errors import ConfigError
from alps.structures.numbers import check_number, check_numbers
from alps.structures.tiles import Tile, cut_tiles

#: Pixels from 0 to 255, uint8 or float, to logits of the same height and width.
Net = Callable[[Shaped[Tensor, "B C H W"]], Float[Tensor, "B K H W"]]

BLENDS = ("gaussian", "mean")

#: Probabilities in memory at once for a large image, 4 bytes each.
BUFFER = 1 << 27

#: Standard deviation of the Gaussian as a share of the window, as in nnU-Net (Isensee et al. 2021).
SIGMA = 1 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Predict window by window and blend where windows overlap.

    What is blended are probabilities, not logits: a mean of distributions is a distribution in
    which every window has the same say, while in a mean of logits the most extreme one wins.

    An image no larger than a window is seen in one pass, and the result is that pass.

    Args:
        crop: side of a window in pixels, the one of training.
        overlap: the least that neighbouring windows share, as a share of the crop. Windows are
            spread evenly (`cut_tiles`), so none reaches beyond the image.
        blend: "gaussian" trusts the middle of a window most, where the net sees context on all
            sides; "mean" trusts all of it alike.
        batch_size: windows per pass.
        scales: each window is seen in these sizes and the mean of its probabilities taken; 2.0
            needs four times the memory.
        flip: each window is seen mirrored as well.
        fill: colour of the padding at the right and lower edge, the one of training.

    Raises:
        ConfigError: a value out of range.
    """

    crop: int
    overlap: float = 0.5
    blend: str = "gaussian"
    batch_size: int = 8
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    fill: Sequence[int] = (124, 116, 104)

    def __post_init__(self) -> None:
        check_number("window.crop", self.crop, "[1, inf)", "whole pixels", whole=True)
        check_number("window.overlap", self.overlap, "[0, 1)", "a share of the crop")
        check_number("window.batch_size", self.batch_size, "[1, inf)", whole=True)
        check_numbers("window.scales", self.scales, "(0, inf)", "a list of numbers above 0")
        if self.blend not in BLENDS:
            raise ConfigError(f"window.blend={self.blend}: expected {' or '.join(BLENDS)}")

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that change what is found; how many windows share a pass does not."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        del settings["batch_size"]
        return {k: v if isinstance(v, int | float | str) else [*v] for k, v in settings.items()}

    @torch.no_grad()
    def __call__(
        self, net: Net, images: Sequence[UInt8[Tensor, "C _ _"]], divisor: int = 32
    ) -> list[Float32[Tensor, "K _ _"]]:
        """Class probabilities of whole images; equal sizes in a row share their passes.

        Args:
            net: see `Net`.
            images: on the net's device.
            divisor: height and width the net sees are multiples of it.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        windows = [self.windows(size) for size in sizes]
        crops = (
            image[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
            for image, tiles in zip(images, windows, strict=True)
            for tile in tiles
        )
        found = self._probabilities(net, crops, divisor)
        return [
            torch.cat([part for _, part in self._blend(found, tiles, (0, width))], dim=1)
            for (_, width), tiles in zip(sizes, windows, strict=True)
        ]

    @torch.no_grad()
    def bands(
        self,
        net: Net,
        read: Callable[[Tile], UInt8[Tensor, "C h w"]],
        size: tuple[int, int],
        *,
        divisor: int = 32,
        buffer: int = 1 << 22,
    ) -> Iterator[tuple[Tile, Float32[Tensor, "K _ _"]]]:
        """Class probabilities of an image of any size, in parts that cover it once.

        The windows move down strip by strip, and rows that no further window reaches are finished.
        The parts are bit by bit those of the whole image, if the net's answer does not depend on
        what else is in its batch. Only windows between two strips are seen twice.

        Args:
            net: see `Net`.
            read: the pixels of a window.
            size: (H, W) of the image.
            divisor: height and width the net sees are multiples of it.
            buffer: pixels whose probabilities are in memory at once; a strip is that many pixels
                wide, divided by the crop.

        Yields:
            Where a part lies, and its probabilities.
        """
        windows = self.windows(size)
        strip = max(buffer // self.crop, 1)
        for x0 in range(0, size[1], strip):
            x1 = min(x0 + strip, size[1])
            tiles = [tile for tile in windows if tile.x0 < x1 and tile.x1 > x0]
            found = self._probabilities(net, map(read, tiles), divisor)
            yield from self._blend(found, tiles, (x0, x1))

    def windows(self, size: tuple[int, int]) -> list[Tile]:
        """The windows of an image of ``size`` (H, W), row by row."""
        return cut_tiles(size, self.crop, int(self.crop * self.overlap))

    def _probabilities(
        self, net: Net, crops: Iterable[UInt8[Tensor, "C _ _"]], divisor: int
    ) -> Iterator[Float32[Tensor, "K _ _"]]:
        for _, equal in groupby(crops, key=lambda crop: crop.shape):
            while batch := list(islice(equal, self.batch_size)):
                yield from self._see(net, torch.stack(batch), divisor)

    def _see(
        self, net: Net, batch: UInt8[Tensor, "B C H W"], divisor: int
    ) -> Float32[Tensor, "B K H W"]:
        """The mean over all scales and flips."""
        size = batch.shape[2:]
        views = list(product(self.scales, (False, True) if self.flip else (False,)))
        total = torch.zeros((), device=batch.device)
        for scale, mirrored in views:
            view = _resize(batch, [max(1, round(side * scale)) for side in size])
            height, width = view.shape[2:]
            view = self._pad(view.flip(3) if mirrored else view, divisor)
            found = net(view)[..., :height, :width].float().softmax(dim=1)
            found = found.flip(3) if mirrored else found
            total = total + _resize(found, size)
        return total / len(views)

    def _pad(self, batch: Shaped[Tensor, "B C h w"], divisor: int) -> Shaped[Tensor, "B C H W"]:
        """Fill up to multiples of ``divisor``, right and below."""
        n, _, height, width = batch.shape
        padded = [-(-side // divisor) * divisor for side in (height, width)]
        if padded == [height, width]:
            return batch
        result = batch.new_tensor(list(self.fill))[:, None, None].repeat(n, 1, *padded)
        result[..., :height, :width] = batch
        return result

    def _blend(
        self,
        found: Iterator[Float32[Tensor, "K _ _"]],
        windows: Sequence[Tile],
        strip: tuple[int, int],
    ) -> Iterator[tuple[Tile, Float32[Tensor, "K _ _"]]]:
        """The weighted mean of the windows within a strip of columns, from top to bottom.

        Both the grid of windows and the weights are products of rows and columns, and so are the
        shares. Where one window lies alone its share is exactly 1.
        """
        x0, x1 = strip
        first = next(found)
        found = chain([first], found)
        rows = self._shares({(tile.y0, tile.y1) for tile in windows}, first.device)
        columns = self._shares({(tile.x0, tile.x1) for tile in windows}, first.device)
        ends = [*(top for top, _ in rows), windows[-1].y1][1:]
        total = first.new_zeros(len(first), 0, x1 - x0)
        for ((top, bottom), row), end in zip(rows.items(), ends, strict=True):
            # Begins with what the rows of windows above have added to these pixels.
            total = F.pad(total, (0, 0, 0, bottom - top - total.shape[1]))
            for (left, right), column in columns.items():
                a, b = max(left, x0), min(right, x1)
                share = torch.outer(row, column[a - left : b - left])
                total[:, :, a - x0 : b - x0] += next(found)[:, :, a - left : b - left] * share
            yield Tile(x0, top, x1, end), total[:, : end - top]
            total = total[:, end - top :]

    def _shares(
        self, spans: Set[tuple[int, int]], device: torch.device
    ) -> dict[tuple[int, int], Float32[Tensor, " n"]]:
        """What each window along one axis contributes to the mean: at every pixel 1 in all."""
        weights = {(start, end): self._weights(end - start) for start, end in sorted(spans)}
        total = torch.zeros(max(end for _, end in spans))
        for (start, end), weight in weights.items():
            total[start:end] += weight
        return {
            (start, end): (weight / total[start:end]).to(device)
            for (start, end), weight in weights.items()
        }

    def _weights(self, length: int) -> Float32[Tensor, " n"]:
        """How much a window is trusted along one axis."""
        if self.blend == "mean":
            return torch.ones(length)
        offset = (torch.arange(length) - (length - 1) / 2) / (SIGMA * length)
        return torch.exp(-(offset**2) / 2)


def most_probable(probabilities: Float[Tensor, "K H W"]) -> Integer[Tensor, "H W"]:
    """The class of each pixel: uint8, in which 255 is no class, or int32 for more classes."""
    classes = probabilities.max(dim=0).indices  # on a CPU six times as fast as argmax
    return classes.to(torch.uint8 if len(probabilities) <= 255 else torch.int32)


def _resize(batch: Shaped[Tensor, "B C _ _"], size: Sequence[int]) -> Shaped[Tensor, "B C _ _"]:
    """Unchanged, and of any type, where it has that size already."""
    if tuple(batch.shape[2:]) == tuple(size):
        return batch
    return F.interpolate(batch.float(), tuple(size), mode="bilinear", antialias=True)
