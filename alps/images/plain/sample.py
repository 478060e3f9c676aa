"""Provide four aerial images of forests for a first run."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from alps.errors import DatasetNotFound
from alps.images.files.ids import image_ids
from alps.images.files.read import SUFFIXES, read_sample
from alps.pretrained.packages import Package, PackageError, fetch_members
from alps.structures.records import ImageRecord, Sample

DEEPFOREST = Package(
    name="deepforest",
    version="2.1.0",
    kind="wheel",
    sha256="8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
)
_LICENSE = "deepforest-2.1.0.dist-info/licenses/LICENSE"
_DATA = "deepforest/data/"
# OSBS_029.tif contains the same image as the PNG.
FILES = (
    "2019_YELL_2_541000_4977000_image_crop.png",
    "2019_YELL_2_541000_4977000_image_crop.xml",
    "OSBS_029.csv",
    "OSBS_029.png",
    "OSBS_029.xml",
    "SOAP_031.png",
    "SOAP_061.png",
    "SOAP_061.xml",
)
LARGE_FILES = (
    "2019_YELL_2_528000_4978000_image_crop2.png",
    "2019_YELL_2_528000_4978000_image_crop2.xml",
)


class SampleImages:
    """Aerial images of the National Ecological Observatory Network from the package deepforest.

    RGB, 10 cm per pixel, MIT licence: three images of 400 × 400 pixels and one of 1035 × 1249
    pixels (4 MB), with files of tree-crown boxes (VOC XML and CSV). Missing files are downloaded
    from the package index.

    Args:
        root: the folder to store the files in.
        large: also include an image of 2472 × 2299 pixels (15 MB).
        name: name of the image set.
    """

    def __init__(self, root: str, large: bool = False, name: str = "sample") -> None:
        self.root = root
        self.large = large
        self.name = name

    def records(self) -> list[ImageRecord]:
        """Return the images; missing ones are downloaded.

        Raises:
            DatasetNotFound: images are missing and cannot be downloaded.
        """
        root = Path(self.root)
        files = FILES + LARGE_FILES if self.large else FILES
        members = {_LICENSE: root / "LICENSE"} | {_DATA + file: root / file for file in files}
        missing = {member: path for member, path in members.items() if not path.is_file()}
        try:
            if missing:
                fetch_members(DEEPFOREST, missing)
        except PackageError as error:
            raise DatasetNotFound(
                f"{len(missing)} of {len(members)} files of the sample are missing in "
                f"{root.absolute()} and cannot be downloaded: {error}. To install them manually, "
                f"unzip the wheel of {DEEPFOREST} and copy {_DATA}* and {_LICENSE} to "
                f"{root.absolute()}"
            ) from error
        images = [PurePosixPath(f) for f in files if PurePosixPath(f).suffix in SUFFIXES]
        return [
            ImageRecord(image_id, str(image), bytes=(root / image).stat().st_size)
            for image, image_id in zip(images, image_ids(images), strict=True)
        ]

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        return read_sample(self.root, record)
