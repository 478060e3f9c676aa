"""Read images with one box file each; shared by the readers of detection datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.files.audit import Audit, Tally, share
from alps.images.files.header import compare_sizes
from alps.images.files.ids import normal
from alps.images.files.labels import refuse_unlabelled
from alps.images.files.limits import digest_files
from alps.images.files.listing import walk
from alps.images.files.read import read_pixels
from alps.images.plain.folder import Folder
from alps.rasters.pixels import Pixels
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.findings import Finding
from alps.structures.palette import color_classes
from alps.structures.records import Category, ImageRecord, Sample


class Annotations(NamedTuple):
    """Content of an annotation file."""

    objects: list[Annotation]
    unclear: list[str]  # one line per annotation that cannot be parsed
    size: tuple[int, int] | None = None  # (H, W) of the image, px; None if not stated


#: Reads an annotation file; raises `ImageError` if nothing in it can be parsed.
Parse = Callable[[Path], Annotations]


@dataclass(frozen=True, slots=True)
class Place:
    """Folders of images and of their annotations, at any depth below the root."""

    split: str  # "": images missing from `BoxedFolders.splits` are skipped
    images: str
    annotations: str
    prefix: str = ""  # of image ids, if names recur in other places


@dataclass(frozen=True, eq=False)
class BoxedFolders:
    """Images and annotations in folders, paired by file name without the suffix.

    Args:
        root: folder that `places` are relative to.
        places: folders of images and annotations, at least one pair.
        suffix: suffix of annotation files, in lower case.
        parse: function that reads one annotation file.
        classes: class names in the order of their ids.
        splits: split by image name, overriding the split of its place.
        unknown_remedy: remedy for objects of an unknown class.
        beside: folder of additional annotation files with the same names, which `parse` reads too.
    """

    root: str
    places: Sequence[Place]
    suffix: str
    parse: Parse
    classes: Sequence[str]
    splits: Mapping[str, str] = field(default_factory=dict)
    unknown_remedy: str = "correct the names in the annotations"
    beside: Path | None = None

    def records(self, name: str) -> list[ImageRecord]:
        """Return all images; their ids are their names without the suffix.

        Raises:
            DatasetNotFound: a folder holds no image, or none that is in a split.
            LabelError: an image has no annotation file.
        """
        records, keys = self._list(name)
        if not records:
            stems = {stem for _, stem in keys}
            lost = sorted(self.splits.keys() - stems)
            raise DatasetNotFound(
                f"none of the {len(stems)} images under {Path(self.root).absolute()} is one of the "
                f"{len(lost)} in its lists (first: {lost[0]}); get images and lists of one release"
            )
        files = self._annotations
        folders = dict.fromkeys(str(Path(self.root, place.annotations)) for place in self.places)
        refuse_unlabelled(
            [r.file_name for r in records if self._key(r) not in files],
            len(records),
            f"a {self.suffix} file of the same name under {' or '.join(folders)}",
        )
        return [replace(r, annotations=self._digest(files[self._key(r)])) for r in records]

    def findings(self) -> list[Finding]:
        """Return inconsistencies; all annotations and image headers are read."""
        records, keys = self._list("")
        audit = Audit(self.classes, self.unknown_remedy)
        unreadable, files = Tally(), self._annotations
        for record in tqdm(records, "checking annotations", unit="file", delay=1):
            path = files[self._key(record)]
            file = path.relative_to(self.root).as_posix()
            try:
                found = self.parse(path)
            except ImageError as error:
                unreadable.add(str(error).replace(f"{Path(self.root)}/", ""))
                continue
            audit.add(record.file_name, file, found.objects, found.unclear)
            audit.add_size(Path(self.root, record.file_name), record.file_name, found.size)
        lost = sorted(self.splits.keys() - {stem for _, stem in keys})
        paths = {*files.values()}  # two places may share a folder of annotations
        orphans = sorted(paths - {files[key] for key in keys if key in files})
        first = orphans[0].relative_to(self.root).as_posix() if orphans else ""
        relations = [
            Finding(
                "unreadable_annotations",
                unreadable.count,
                f"{share(unreadable.count, len(records), 'annotation file')} cannot be read "
                f"{unreadable}",
                "mend or remove them; until then their images are skipped",
            ),
            Finding(
                "orphan_annotations",
                len(orphans),
                f"{share(len(orphans), len(paths), 'annotation file')} belong to no image "
                f"(first: {first})",
                "get the images, or give both the same name",
            ),
            Finding(
                "missing_images",
                len(lost),
                f"{share(len(lost), len(self.splits), 'image')} in the lists of splits are not "
                f"there (first: {', '.join(lost[:1])})",
                "get them, or take them from the lists; the others are used",
            ),
        ]
        for place in self.places:
            relations += Folder(str(Path(self.root, place.images)), place.images).findings()
        return [finding for finding in relations if finding.count] + audit.findings()

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if one of the files cannot be used."""
        pixels = read_pixels(Path(self.root, record.file_name))
        path = self._annotations[self._key(record)]
        found = self.parse(path)
        return make_sample(
            record, pixels, found.objects, self.classes, path, found.unclear, found.size
        )

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes(self.classes)

    def _digest(self, path: Path) -> str:
        """Return the digest of an annotation file and of the file of that name in `beside`."""
        paths = [path]
        if self.beside is not None and (other := self.beside / path.name).is_file():
            paths.append(other)
        return digest_files(paths, self.classes)

    def _list(self, name: str) -> tuple[list[ImageRecord], set[tuple[str, str]]]:
        """Return the images that are in a split, and the keys of all images."""
        records, keys = [], set()
        for place in self.places:
            for record in Folder(str(Path(self.root, place.images)), name).records():
                stem = normal(PurePosixPath(record.file_name).stem)
                keys.add((place.images, stem))
                if split := self.splits.get(stem, place.split):
                    image_id = place.prefix + record.image_id
                    path = f"{place.images}/{record.file_name}"
                    records.append(ImageRecord(image_id, path, split, record.bytes))
        return records, keys

    @cached_property
    def _annotations(self) -> dict[tuple[str, str], Path]:
        """Annotation files by image folder and image name (in NFC)."""
        found: dict[tuple[str, str], Path] = {}
        for place in self.places:
            folder = Path(self.root, place.annotations)
            for path in sorted(PurePosixPath(path) for path, _ in walk(folder)):
                if path.suffix.lower() == self.suffix:
                    other = found.setdefault((place.images, normal(path.stem)), folder / path)
                    if other != folder / path:
                        raise LabelError(
                            f"{other} and {folder / path} annotate one image; remove one of them"
                        )
        return found

    def _key(self, record: ImageRecord) -> tuple[str, str]:
        """Return the key of a record in `_annotations`."""
        path = PurePosixPath(record.file_name)
        folder = next(p.images for p in self.places if path.is_relative_to(p.images))
        return folder, normal(path.stem)


class BoxedImages(ABC):
    """Image set made of `BoxedFolders`; base of DOTA, DIOR, FAIR1M, HRSC2016 and VOC.

    Subclasses implement `find`, which locates the folders and files.
    """

    root: str
    name: str

    @abstractmethod
    def find(self) -> BoxedFolders:
        """Return the folders that exist; raise `DatasetNotFound` if there are none."""

    def records(self) -> list[ImageRecord]:
        """Return all images of the splits that exist.

        Raises:
            DatasetNotFound: no split exists, or the splits hold no image.
            LabelError: an image has no annotation file.
        """
        return self._files.records(self.name)

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if one of the files cannot be used."""
        return self._files.read(record)

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return self._files.categories()

    def findings(self) -> list[Finding]:
        """Return inconsistencies between images and annotations."""
        return self._files.findings()

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
    stated: tuple[int, int] | None = None,
) -> Sample:
    """Return an image with its usable annotations and one line for each dropped one.

    Args:
        record: record of the image.
        pixels: the image with its valid mask.
        annotations: annotations as read from the file.
        classes: class names in the order of their ids.
        path: annotation file, whose name precedes each line.
        unclear: one line for each annotation that could not be parsed.
        stated: (H, W) of the image according to the file, px, or None. If it differs from the size
            of the image, all boxes are dropped.
    """
    ids = {name: i for i, name in enumerate(classes)}
    boxes, dropped = check_boxes(annotations, ids, pixels.size)
    if problem := compare_sizes(PurePosixPath(record.file_name).name, pixels.size, stated):
        boxes, dropped = Boxes.empty(), [problem] * len(annotations)
    lines = tuple(f"{path.name} {line}" for line in (*unclear, *dropped))
    return Sample(record.image_id, pixels.image, boxes, lines, pixels.valid)
