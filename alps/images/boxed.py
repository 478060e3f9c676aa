"""Images with a file of boxes each: what the readers of detection datasets share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from alps.boxes import Annotation, check_boxes
from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.annotation_file import digest_files, read_bytes
from alps.images.folder import Folder, walk
from alps.images.labels import refuse_unlabelled
from alps.images.read import read_pixels
from alps.palette import color_classes
from alps.rasters.pixels import Pixels
from alps.types import Category, ImageRecord, Sample

logger = logging.getLogger(__name__)

#: Lists of images as Pascal VOC has them, and the split of each; a later one counts more.
LISTS: Mapping[str, str] = {"trainval": "train", "train": "train", "val": "val", "test": "test"}

#: The objects of an annotation file, and a line for each that cannot be understood; raises
#: `ImageError` where that is the whole file.
Parse = Callable[[Path], tuple[list[Annotation], list[str]]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where images lie, and their annotations; any depth below the root."""

    split: str  # "": images that `BoxedFolders.splits` does not know are left out
    images: str
    annotations: str
    prefix: str = ""  # of the images' ids, where their names occur in other places, too


@dataclass(frozen=True, eq=False)
class BoxedFolders:
    """Images and annotations in folders, paired by their names without the suffix.

    Args:
        root: what `places` are relative to.
        places: at least one.
        suffix: of annotation files, in lower case.
        parse: reads one.
        classes: names in the order of their ids.
        splits: by name of the image, for those that are not in the split of their place.
        beside: folder of further annotation files of the same names, which `parse` reads as well.
    """

    root: str
    places: Sequence[Place]
    suffix: str
    parse: Parse
    classes: Sequence[str]
    splits: Mapping[str, str] = field(default_factory=dict)
    beside: Path | None = None

    def records(self, name: str) -> list[ImageRecord]:
        """All images; their ids are their names without the suffix.

        Raises:
            DatasetNotFound: a folder holds no image, or none that is in a split.
            LabelError: an image has no annotation file.
        """
        records, stems = [], set()
        for place in self.places:
            for record in Folder(str(Path(self.root, place.images)), name).records():
                stem = PurePosixPath(record.file_name).stem
                stems.add(stem)
                if split := self.splits.get(stem, place.split):
                    image_id = place.prefix + record.image_id
                    path = f"{place.images}/{record.file_name}"
                    records.append(ImageRecord(image_id, path, split, record.bytes))
        lost = sorted(self.splits.keys() - stems)
        if not records:
            raise DatasetNotFound(
                f"none of the {len(stems)} images under {Path(self.root).absolute()} is one of the "
                f"{len(lost)} in its lists (first: {lost[0]}); get images and lists of one release"
            )
        if lost:
            logger.warning(
                "%d of %d images in the lists under %s are not there (first: %s); the others are "
                "used",
                len(lost),
                len(self.splits),
                self.root,
                lost[0],
            )
        files = self._annotations
        folders = dict.fromkeys(str(Path(self.root, place.annotations)) for place in self.places)
        refuse_unlabelled(
            [r.file_name for r in records if self._key(r) not in files],
            len(records),
            f"a {self.suffix} file of the same name under {' or '.join(folders)}",
        )
        return [replace(r, annotations=self._digest(files[self._key(r)])) for r in records]

    def read(self, record: ImageRecord) -> Sample:
        """Image and boxes; raises `ImageError` when one of the files cannot be used."""
        pixels = read_pixels(Path(self.root, record.file_name))
        path = self._annotations[self._key(record)]
        annotations, unclear = self.parse(path)
        return make_sample(record, pixels, annotations, self.classes, path, unclear)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        return color_classes(self.classes)

    def _digest(self, path: Path) -> str:
        paths = [path]
        if self.beside is not None and (other := self.beside / path.name).is_file():
            paths.append(other)
        return digest_files(paths, self.classes)

    @cached_property
    def _annotations(self) -> dict[tuple[str, str], Path]:
        """By the folder of the images and their name."""
        found: dict[tuple[str, str], Path] = {}
        for place in self.places:
            folder = Path(self.root, place.annotations)
            for path in sorted(PurePosixPath(path) for path, _ in walk(folder)):
                if path.suffix.lower() == self.suffix:
                    other = found.setdefault((place.images, path.stem), folder / path)
                    if other != folder / path:
                        raise LabelError(
                            f"{other} and {folder / path} annotate one image; remove one of them"
                        )
        return found

    def _key(self, record: ImageRecord) -> tuple[str, str]:
        path = PurePosixPath(record.file_name)
        return next(p.images for p in self.places if path.is_relative_to(p.images)), path.stem


class BoxedImages(ABC):
    """An image set out of `BoxedFolders`: what DOTA, DIOR, FAIR1M, HRSC2016 and VOC share.

    One of them says, by `find`, which folders and files these are.
    """

    root: str
    name: str

    @abstractmethod
    def find(self) -> BoxedFolders:
        """The folders that are there; raises `DatasetNotFound` where there are none."""

    def records(self) -> list[ImageRecord]:
        """All images of the splits that are there.

        Raises:
            DatasetNotFound: none is there, or there is no image in it.
            LabelError: an image has no annotation file.
        """
        return self._files.records(self.name)

    def read(self, record: ImageRecord) -> Sample:
        """Image and boxes; raises `ImageError` when one of the files cannot be used."""
        return self._files.read(record)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        return self._files.categories()

    @cached_property
    def _files(self) -> BoxedFolders:
        return self.find()


def make_sample(
    record: ImageRecord,
    pixels: Pixels,
    annotations: Sequence[Annotation],
    classes: Iterable[str],
    path: Path,
    unclear: Sequence[str] = (),
) -> Sample:
    """An image with those of its annotations that can be used, and a line for each other.

    Args:
        record: of the image.
        pixels: the image and which of its pixels are data.
        annotations: as they stand in the file.
        classes: names in the order of their ids.
        path: the file, whose name goes before each line.
        unclear: a line for each annotation that could not even be read.
    """
    ids = {name: i for i, name in enumerate(classes)}
    boxes, dropped = check_boxes(annotations, ids, pixels.size)
    lines = tuple(f"{path.name} {line}" for line in (*unclear, *dropped))
    return Sample(record.image_id, pixels.image, boxes, lines, pixels.valid)


def read_splits(folder: Path) -> dict[str, str]:
    """The split of each image that the lists in a folder name, one a line."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        path = folder / f"{name}.txt"
        lines = read_text(path).splitlines() if path.is_file() else []
        splits |= dict.fromkeys((line.strip() for line in lines if line.strip()), split)
    return splits


def read_text(path: Path) -> str:
    """An annotation file; raises `ImageError` when it cannot be read."""
    try:
        return read_bytes(path).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def numbers(words: Sequence[str]) -> list[float]:
    """Words as numbers, NaN for what is none."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            found.append(float("nan"))
    return found
