"""Read SAMRS: 105,090 images in the subsets SOTA, SIOR and FAST (Wang et al., arXiv 2305.02034).

The folders (`SUBSETS`) are laid out as for the authors' pre-training (ViTAE-Transformer/SAMRS,
Encoder_Decoder/main_pretrain.py). This module reads images and splits, but no labels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alps.errors import ConfigError, DatasetNotFound
from alps.images.files.fields import read_list
from alps.images.files.ids import image_ids, to_nfc
from alps.images.files.listing import contents
from alps.images.files.read import read_sample
from alps.structures.records import ImageRecord, Sample

logger = logging.getLogger(__name__)

URL = "https://github.com/ViTAE-Transformer/SAMRS"


@dataclass(frozen=True, slots=True)
class Subset:
    """Location of one subset."""

    folders: tuple[str, ...]  # relative to the root; the first that exists is used
    images: str  # relative to the folder, which also contains train.txt and valid.txt
    suffix: str


SUBSETS: Mapping[str, Subset] = {
    "sota": Subset(("dotav2_1024/trainval", "SOTA/trainval", "SOTA"), "images", ".png"),
    "sior": Subset(("dior", "SIOR"), "JPEGImages-trainval", ".jpg"),
    "fast": Subset(("fair1m_1024/trainval", "FAST/trainval", "FAST"), "images", ".png"),
}


class Samrs:
    """The images of SAMRS; ids are ``sota/P0000__1024__0___0`` and so on.

    Images in valid.txt are in the split "val"; all other images are in "train", whether they are in
    train.txt or in no list. (The authors drew the lists at random, 95 to 5, to check their code,
    and do not require them: issue 30 of their repository.)

    Args:
        root: folder that contains the subsets.
        subsets: names of the subsets to look for; the ones that exist are used.
        name: name of the image set.

    Raises:
        ConfigError: there is no subset of that name.
    """

    def __init__(
        self,
        root: str,
        subsets: Sequence[str] = ("sota", "sior", "fast"),
        name: str = "samrs",
    ) -> None:
        if not subsets or not set(subsets) <= set(SUBSETS):
            raise ConfigError(
                f"dataset.subsets is {list(subsets)}, expected one or more of {list(SUBSETS)}"
            )
        self.root = root
        self.subsets = tuple(subsets)
        self.name = name

    def records(self) -> list[ImageRecord]:
        """Return all images of the subsets that exist.

        Raises:
            DatasetNotFound: no subset exists, or the subsets contain no image.
        """
        root = Path(self.root)
        records = []
        missing_subsets = []
        for name in self.subsets:
            subset = SUBSETS[name]
            for folder in subset.folders:
                if (root / folder / subset.images).is_dir():
                    records += _list_images(root, folder, name, subset)
                    break
            else:
                missing_subsets.append(name)
        if not records:
            places = [f"{SUBSETS[s].folders[0]}/{SUBSETS[s].images}" for s in self.subsets]
            raise DatasetNotFound(
                f"no images of SAMRS under {root.absolute()}: found {contents(root)}, looked for "
                f"{', '.join(places)}; download SAMRS through the OneDrive or Baidu links at {URL} "
                "and unpack it there, or set dataset.root to its folder"
            )
        if missing_subsets:
            logger.warning(
                "%s contains no %s; the other subsets are used", root, ", ".join(missing_subsets)
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        return read_sample(self.root, record)


def _list_images(root: Path, folder: str, name: str, subset: Subset) -> list[ImageRecord]:
    """Return the images of a subset with their splits."""
    train, val = ({*read_list(root / folder / f"{part}.txt")} for part in ("train", "valid"))
    with os.scandir(root / folder / subset.images) as entries:
        sizes = {
            entry.name: entry.stat().st_size
            for entry in entries
            if entry.name.lower().endswith(subset.suffix)
            and not entry.name.startswith(".")
            and entry.is_file()
        }
    files = sorted(sizes)
    stems = [to_nfc(file[: -len(subset.suffix)]) for file in files]
    ids = image_ids([PurePosixPath(name, file) for file in files])

    if missing := sorted((train | val).difference(stems)):
        logger.warning(
            "%d of %d images in the lists of %s are not in %s (first: %s); the others are used",
            len(missing),
            len(train | val),
            name,
            root / folder / subset.images,
            missing[0],
        )
    return [
        ImageRecord(
            image_id,
            f"{folder}/{subset.images}/{file}",
            "val" if stem in val else "train",
            sizes[file],
        )
        for image_id, file, stem in zip(ids, files, stems, strict=True)
    ]
