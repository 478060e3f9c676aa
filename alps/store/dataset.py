"""A label store as a torch dataset, for training without `alps.training`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor
from torch.utils.data import Dataset


class StoreDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of an image, uint8 (3, H, W), and its index map, int64 (H, W).

    Args:
        image_ids: the images.
        read_image: reads an RGB image (H, W, 3) by its id.
        read_index_map: reads an index map (H, W) by the id of its image.
    """

    def __init__(
        self,
        image_ids: Sequence[str],
        read_image: Callable[[str], UInt8[np.ndarray, "H W 3"]],
        read_index_map: Callable[[str], Integer[np.ndarray, "H W"]],
    ) -> None:
        self.image_ids = image_ids
        self._read_image, self._read_index_map = read_image, read_index_map

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "3 H W"], Int64[Tensor, "H W"]]:
        image_id = self.image_ids[index]
        # Copied, because a reader may return an array that is not writable or not contiguous.
        image = torch.tensor(self._read_image(image_id)).permute(2, 0, 1).contiguous()
        return image, torch.tensor(self._read_index_map(image_id).astype(np.int64))
