"""Read ATLAS 2023: contrast-enhanced MRI of 60 livers with tumours.

Quinton et al., Data 8(5), 2023. The training set of the challenge "A Tumor and Liver Automatic
Segmentation", laid out as in its archive: ``atlas-train-dataset-1.0.1/train/`` with
``imagesTr/im0.nii.gz``, ``labelsTr/lb0.nii.gz`` and so on. The label values are 0 background, 1
liver and 2 tumour (dataset.json).
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path, PurePosixPath

from alps.errors import DatasetNotFound, LabelError
from alps.images.files.labels import Labels, refuse_unlabelled
from alps.images.files.listing import contents, walk
from alps.images.files.nifti import read_label_slice
from alps.images.plain.volumes import read_slice_sample, slice_records
from alps.structures.records import Category, ImageRecord, Sample, number_classes

URL = "https://atlas-challenge.u-bourgogne.fr/dataset"
#: Name and colour, in the order of the label values.
CLASSES = (
    ("background", (0, 0, 0)),
    ("liver", (200, 90, 60)),
    ("tumour", (250, 220, 60)),
)
FILE = re.compile(r"(im|lb)(\d+)\.nii(\.gz)?", re.IGNORECASE)
#: Volumes whose number is a multiple of this are used for validation, because there is no official
#: validation split and the labels of the test set are not public.
VAL = 5
LAYOUT = "imagesTr/im0.nii.gz and labelsTr/lb0.nii.gz and so on"


class Atlas2023:
    """The slices of the training volumes; ids are ``im0/0012``, with slices counted from the feet.

    Volumes 0, 5, 10 … are the split "val"; all slices of a patient are in one split.

    Args:
        root: folder that contains the files at any depth.
        name: name of the image set.
    """

    ignore_index = 255  # only for padding: all voxels have a class
    background = 0  # the challenge scores liver and tumour
    protocol = (
        "ATLAS 2023, the slices of every fifth training volume (not the challenge's test set), 3 "
        "classes (background is one)"
    )

    def __init__(self, *, root: str, name: str = "atlas2023") -> None:
        self.root = root
        self.name = name

    def records(self) -> list[ImageRecord]:
        """Return all slices.

        A damaged volume is listed with one slice; `read` raises the error.

        Raises:
            DatasetNotFound: there is no volume.
            LabelError: a volume has no labels.
            MissingPackage: nibabel is not installed.
        """
        root = Path(self.root)
        images = {number: path for (kind, number), path in self._files.items() if kind == "im"}
        if not images:
            raise DatasetNotFound(
                f"no volume of ATLAS 2023 under {root.absolute()}: found {contents(root)}, looked "
                f"at any depth for {LAYOUT}; register at {URL}, download "
                "atlas-train-dataset-1.0.1.zip and unzip it there, or set "
                "dataset.root to its folder"
            )
        refuse_unlabelled(
            [path for number, path in sorted(images.items()) if ("lb", number) not in self._files],
            len(images),
            f"labelsTr/lb0.nii.gz for imagesTr/im0.nii.gz and so on ({URL})",
        )
        return [
            record
            for number, path in sorted(images.items())
            for record in slice_records(
                root, path, f"im{number}", "train" if number % VAL else "val"
            )
        ]

    def read(self, record: ImageRecord) -> Sample:
        """Read one slice.

        Returns:
            The slice with its valid mask.

        Raises:
            ImageError: the volume cannot be read.
            MissingPackage: nibabel is not installed.
        """
        return read_slice_sample(self.root, record)

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return number_classes(CLASSES)

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one slice; raise `LabelError` if it cannot be read."""
        match = FILE.fullmatch(PurePosixPath(record.file_name).name)
        assert match, "records() lists only files that match"
        path = Path(self.root, self._files["lb", int(match[2])])
        image = Path(self.root, record.file_name)
        labels = read_label_slice(path, record.frame_index or 0, image)
        if labels.max() >= len(CLASSES):
            raise LabelError(
                f"{path} contains {labels.max()} in slice {record.frame_index}, expected 0 to "
                f"{len(CLASSES) - 1}; use the published file"
            )
        return labels

    @cached_property
    def _files(self) -> dict[tuple[str, int], str]:
        """Paths by kind and number; uncompressed volumes take precedence, as they are faster."""
        root = Path(self.root)
        paths = sorted((path for path, _ in walk(root)), reverse=True) if root.is_dir() else []
        matches = ((FILE.fullmatch(PurePosixPath(path).name), path) for path in paths)
        return {(match[1].lower(), int(match[2])): path for match, path in matches if match}
