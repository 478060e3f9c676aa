"""Find the rows of an image in the shards of a label store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from alps.errors import ConfigError, ImageError, StoreError
from alps.store.layout import ImageStatus
from alps.store.shards import Plan, Shard, ShardSequence
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class ImageRows:
    """An image in its shard."""

    shard: Shard
    rows: slice  # rows of its masks
    status: ImageStatus
    masks: Masks


class ImageIndex:
    """The images of a store by id; fast if they are requested in the order of the plan.

    Args:
        root: folder of the store, for messages.
        plan: the images of every shard.
        shard: returns a shard by its number.
        has_masks: returns whether a shard, given by its number, has masks.
    """

    def __init__(
        self,
        root: Path,
        plan: Plan,
        shard: Callable[[int], Shard],
        has_masks: Callable[[int], bool],
    ) -> None:
        self._root, self._plan, self._shard, self._has_masks = root, plan, shard, has_masks
        # One shard is cached, because the next image is usually in the same shard.
        self._read = ShardSequence(self._read_shard, len(plan), 1)

    def of_split(self, split: str | None) -> Iterator[tuple[ImageStatus, ImageRecord]]:
        """Yield the status and the record of each image of a split whose shard has masks.

        Args:
            split: name of the split; None: all.

        Raises:
            ConfigError: the store has no such split.
        """
        if split is not None and split not in self._plan.splits:
            raise ConfigError(
                f"{self._root} has no split {split!r}; choose one of {', '.join(self._plan.splits)}"
            )
        for number, records in enumerate(self._plan):
            if self._has_masks(number):
                for status, record in zip(self._shard(number).images(), records, strict=True):
                    if split in (None, record.split):
                        yield status, record

    def shard_of(self, image_id: str) -> int:
        """Return the number of the shard of an image.

        Raises:
            StoreError: the store has no such image.
        """
        numbers = self._plan.shard_of
        if image_id not in numbers:
            similar = get_close_matches(str(image_id), numbers, n=3)
            hint = f"similar: {', '.join(map(repr, similar))}; " if similar else ""
            raise StoreError(
                f"{self._root} has no image {image_id!r}; {hint}images() lists all {len(numbers)}, "
                f"starting with {next(iter(numbers))!r}"
            )
        return numbers[image_id]

    def find(self, image_id: str) -> ImageRows:
        """Return the rows of an image whose shard has masks.

        Raises:
            ImageError: the image could not be read when it was labelled.
            StoreError: the store has no such image, or its tables cannot be read.
        """
        number = self.shard_of(image_id)
        statuses, masks = self._read[number]
        start = 0
        for status in statuses:
            if status.image_id == image_id:
                break
            start += status.n_masks
        if image_id not in masks:
            raise ImageError(
                f"{image_id} has no masks in {self._root}: it could not be read when it was "
                f"labelled ({status.error})"
            )
        rows = slice(start, start + status.n_masks)
        return ImageRows(self._shard(number), rows, status, masks[image_id])

    def _read_shard(self, number: int) -> tuple[list[ImageStatus], dict[str, Masks]]:
        shard = self._shard(number)
        return shard.images(), shard.masks()
