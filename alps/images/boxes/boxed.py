"""Read images that have one annotation file each; shared by the readers of detection datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.files.audit import Audit, Occurrences, count_of
from alps.images.files.header import compare_sizes
from alps.images.files.ids import to_nfc
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
    unparsed: list[str]  # one message per annotation that cannot be parsed
    size: tuple[int, int] | None = None  # (H, W) of the image, px; None if not stated


#: Reads an annotation file; raises `ImageError` if nothing in it can be parsed.
Parse = Callable[[Path], Annotations]


@dataclass(frozen=True, slots=True)
class AnnotatedFolder:
    """A folder of images and the folder of their annotations, relative to the root."""

    split: str  # "": images that are not in `BoxedFolders.splits` are skipped
    images: str
    annotations: str
    prefix: str = ""  # prefix of image ids, for names that occur in several folders


@dataclass(frozen=True, eq=False)
class BoxedFolders:
    """Images and annotations in folders, paired by file name without the suffix.

    Args:
        root: folder of the dataset; `folders` are relative to it.
        folders: folders of images and annotations, at least one pair.
        suffix: suffix of annotation files, in lower case.
        parse: function that reads one annotation file.
        classes: class names in the order of their ids.
        splits: split by image name, overriding the split of its folder.
        unknown_remedy: remedy for objects of an unknown class.
        additional: folder of additional annotation files with the same names, for digests; `parse`
            reads them, too.
    """

    root: str
    folders: Sequence[AnnotatedFolder]
    suffix: str
    parse: Parse
    classes: Sequence[str]
    splits: Mapping[str, str] = field(default_factory=dict)
    unknown_remedy: str = "correct the names in the annotations"
    additional: Path | None = None

    def records(self, name: str) -> list[ImageRecord]:
        """Return all images; their ids are their names without the suffix.

        Raises:
            DatasetNotFound: a folder contains no image, or no image is in a split.
            LabelError: an image has no annotation file.
        """
        records, keys = self._list(name)
        if not records:
            stems = {stem for _, stem in keys}
            missing = sorted(self.splits.keys() - stems)
            raise DatasetNotFound(
                f"none of the {len(stems)} images under {Path(self.root).absolute()} is among the "
                f"{len(missing)} names in the split lists (first: {missing[0]}); use images and "
                "lists of the same release"
            )
        files = self._annotations
        searched = dict.fromkeys(
            str(Path(self.root, folder.annotations)) for folder in self.folders
        )
        refuse_unlabelled(
            [r.file_name for r in records if self._key(r) not in files],
            len(records),
            f"a {self.suffix} file of the same name under {' or '.join(searched)}",
        )
        return [replace(r, annotations=self._digest(files[self._key(r)])) for r in records]

    def findings(self) -> list[Finding]:
        """Return inconsistencies; this reads all annotations and image headers."""
        records, keys = self._list("")
        audit = Audit(self.classes, self.unknown_remedy)
        unreadable, files = Occurrences(), self._annotations
        for record in tqdm(records, "checking annotations", unit="file", delay=1):
            path = files[self._key(record)]
            file = path.relative_to(self.root).as_posix()
            try:
                annotations = self.parse(path)
            except ImageError as error:
                unreadable.add(str(error).replace(f"{Path(self.root)}/", ""))
                continue
            audit.add(record.file_name, file, annotations.objects, annotations.unparsed)
            audit.add_size(Path(self.root, record.file_name), record.file_name, annotations.size)
        missing = sorted(self.splits.keys() - {stem for _, stem in keys})
        paths = {*files.values()}  # two image folders may share their annotation files
        orphans = sorted(paths - {files[key] for key in keys if key in files})
        first = orphans[0].relative_to(self.root).as_posix() if orphans else ""
        relations = [
            Finding(
                "unreadable_annotations",
                unreadable.count,
                f"{count_of(unreadable.count, len(records), 'annotation file')} cannot be read "
                f"{unreadable}",
                "repair or remove them; until then their images are skipped",
            ),
            Finding(
                "orphan_annotations",
                len(orphans),
                f"{count_of(len(orphans), len(paths), 'annotation file')} belong to no image "
                f"(first: {first})",
                "add the images, or give images and annotations the same names",
            ),
            Finding(
                "missing_images",
                len(missing),
                f"{count_of(len(missing), len(self.splits), 'image')} in the split lists are "
                f"missing (first: {', '.join(missing[:1])})",
                "add them, or remove them from the lists; until then they are skipped",
            ),
        ]
        for folder in self.folders:
            relations += Folder(str(Path(self.root, folder.images)), folder.images).findings()
        return [finding for finding in relations if finding.count] + audit.findings()

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if one of their files cannot be read."""
        pixels = read_pixels(Path(self.root, record.file_name))
        path = self._annotations[self._key(record)]
        annotations = self.parse(path)
        return make_sample(
            record,
            pixels,
            annotations.objects,
            self.classes,
            path,
            annotations.unparsed,
            annotations.size,
        )

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes(self.classes)

    def _digest(self, path: Path) -> str:
        """Return the digest of an annotation file and the `additional` file of the same name."""
        paths = [path]
        if self.additional is not None and (other := self.additional / path.name).is_file():
            paths.append(other)
        return digest_files(paths, self.classes)

    def _list(self, name: str) -> tuple[list[ImageRecord], set[tuple[str, str]]]:
        """Return the images that are in a split, and the keys of all images."""
        records, keys = [], set()
        for folder in self.folders:
            for record in Folder(str(Path(self.root, folder.images)), name).records():
                stem = to_nfc(PurePosixPath(record.file_name).stem)
                keys.add((folder.images, stem))
                if split := self.splits.get(stem, folder.split):
                    image_id = folder.prefix + record.image_id
                    path = f"{folder.images}/{record.file_name}"
                    records.append(ImageRecord(image_id, path, split, record.bytes))
        return records, keys

    @cached_property
    def _annotations(self) -> dict[tuple[str, str], Path]:
        """Annotation files by image folder and image name (in NFC)."""
        annotations: dict[tuple[str, str], Path] = {}
        for folder in self.folders:
            annotation_folder = Path(self.root, folder.annotations)
            for path in sorted(PurePosixPath(path) for path, _ in walk(annotation_folder)):
                if path.suffix.lower() == self.suffix:
                    other = annotations.setdefault(
                        (folder.images, to_nfc(path.stem)), annotation_folder / path
                    )
                    if other != annotation_folder / path:
                        raise LabelError(
                            f"{other} and {annotation_folder / path} annotate the same image; "
                            "remove one of the files"
                        )
        return annotations

    def _key(self, record: ImageRecord) -> tuple[str, str]:
        """Return the key of a record in `_annotations`."""
        path = PurePosixPath(record.file_name)
        images = next(f.images for f in self.folders if path.is_relative_to(f.images))
        return images, to_nfc(path.stem)


class BoxedImages(ABC):
    """Base class of the image sets DOTA, DIOR, FAIR1M, HRSC2016 and VOC.

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
            DatasetNotFound: no split exists, or the splits contain no image.
            LabelError: an image has no annotation file.
        """
        return self._files.records(self.name)

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if one of their files cannot be read."""
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
    unparsed: Sequence[str] = (),
    stated: tuple[int, int] | None = None,
) -> Sample:
    """Return an image with its usable boxes, and a message for each dropped annotation.

    Args:
        record: record of the image.
        pixels: the image with its valid mask.
        annotations: annotations as read from the file.
        classes: class names in the order of their ids.
        path: annotation file; its name is prefixed to each message.
        unparsed: one message for each annotation that could not be parsed.
        stated: (H, W) of the image according to the file, px, or None. If it differs from the size
            of the image, all boxes are dropped.

    Returns:
        The image with its boxes and the messages.
    """
    ids = {name: i for i, name in enumerate(classes)}
    boxes, dropped = check_boxes(annotations, ids, pixels.size)
    if problem := compare_sizes(PurePosixPath(record.file_name).name, pixels.size, stated):
        boxes, dropped = Boxes.empty(), [problem] * len(annotations)
    lines = tuple(f"{path.name} {line}" for line in (*unparsed, *dropped))
    return Sample(
        image_id=record.image_id,
        image=pixels.image,
        boxes=boxes,
        dropped=lines,
        valid=pixels.valid,
        georeference=pixels.georeference,
    )
