"""Hostile files: sound ones of every format that is read, damaged by a seed (tests/mutations.py).

A mutant is a folder that one of the image sets reads, with one file of it damaged. The same number
gives the same bytes.
"""

from __future__ import annotations

import pickle
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from alps.images.boxes.coco import Coco
from alps.images.boxes.dior import Dior
from alps.images.boxes.dota import Dota
from alps.images.boxes.fair1m import Fair1m
from alps.images.boxes.hrsc2016 import Hrsc2016
from alps.images.boxes.table import Table
from alps.images.boxes.voc import Voc
from alps.images.files.labels import read_labels
from alps.images.plain.folder import Folder
from alps.images.plain.volumes import Volumes
from alps.images.samrs.boxes import SamrsBoxes
from alps.images.samrs.labels import SamrsLabels
from alps.images.video.tracked import VideoBoxes
from alps.protocols import ImageSet
from alps.structures.findings import AuditableSet
from tests import box_formats, factories, ground_truth, videos
from tests.mutations import BINARY, GZIP, NIFTI, PICKLE, TEXT, Damage

Read = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Format:
    """How a sound dataset is written, which file of it is damaged, and what reads it."""

    write: Callable[[Path], None]
    file: str  # a pattern; one file must match
    read: Read
    damage: Sequence[Damage]


def read_all(images: ImageSet) -> None:
    """List and read everything, with the true masks where there are any, and what contradicts."""
    if isinstance(images, AuditableSet):
        images.findings()
    for record in images.records():
        sample = images.read(record)
        if isinstance(images, Coco | SamrsBoxes):
            assert sample.boxes is not None
            images.read_instances(record, sample.boxes, sample.size)
        if isinstance(images, SamrsLabels):
            images.read_target(record)


def _image(name: str, save: Callable[[Path, np.ndarray], object]) -> Format:
    def write(root: Path) -> None:
        root.mkdir(parents=True)
        save(root / name, factories.draw_scene((40, 56), seed=len(name))[0])

    return Format(write, name, lambda root: read_all(Folder(str(root), "x")), BINARY)


def _pil(name: str, mode: str = "RGB", **options: object) -> Format:
    return _image(name, lambda path, a: Image.fromarray(a).convert(mode).save(path, **options))


def _tiff(name: str, **options: object) -> Format:
    return _image(name, lambda path, a: tifffile.imwrite(path, a, photometric="rgb", **options))


def _raster(name: str, dtype: type = np.uint8, count: int = 4, **options: Any) -> Format:
    """Written by GDAL."""

    def save(path: Path, image: np.ndarray) -> None:
        bands = np.concatenate([image, image], axis=2)[..., :count].transpose(2, 0, 1)
        factories.create_raster(path, bands.astype(dtype), **options)

    return _image(name, save)


SECRET = "hidden/.secret.tif"


def _vrt(data: bytes, rng: np.random.Generator) -> bytes:
    """A raster becomes a text that names another, damaged or not."""
    return TEXT[rng.integers(len(TEXT))](_describe("a.vrt").encode(), rng)


def _describe(name: str) -> str:
    """What GDAL would follow to `SECRET`."""
    if name.endswith("xml"):
        return (
            f"<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{SECRET}</MDI>"
            "</Metadata></PAMDataset>"
        )
    return (
        "<VRTDataset rasterXSize='56' rasterYSize='40'><VRTRasterBand dataType='Byte' band='1'>"
        f"<SimpleSource><SourceFilename relativeToVRT='1'>{SECRET}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )


def _beside(name: str, damage: Sequence[Damage] = TEXT) -> Format:
    """A file that names another, which must not be read: it has the value 251 in all bands."""

    def write(root: Path) -> None:
        factories.create_raster(root / SECRET, np.full((3, 40, 56), 251, np.uint8))
        (root / name).write_text(_describe(name))
        factories.create_raster(
            root / "a.tif", factories.draw_scene((40, 56))[0].transpose(2, 0, 1)
        )

    def read(root: Path) -> None:
        folder = Folder(str(root), "x")
        folder.findings()
        for record in folder.records():
            sample = folder.read(record)
            assert (sample.image != 251).any(), "another file was read"

    return Format(write, name, read, damage)


def _masked() -> Format:
    """A TIFF with its mask in a second file, which is damaged."""

    def write(root: Path) -> None:
        factories.create_raster(
            root / "a.tif", factories.draw_scene((40, 56))[0].transpose(2, 0, 1)
        )
        mask = np.where(np.eye(40, 56, dtype=bool), 0, 255).astype(np.uint8)
        factories.create_raster(root / "a.tif.msk", mask[None], driver="GTiff", compress="deflate")

    return Format(write, "a.tif.msk", lambda root: read_all(Folder(str(root), "x")), BINARY)


def _boxes(write: Callable[[Path], object], file: str, read: Read) -> Format:
    return Format(write, file, read, TEXT)


def _pickle(protocol: int) -> Format:
    """Of SAMRS; the authors' files are of protocol 4, older ones name things by GLOBAL."""

    def write(root: Path) -> None:
        ground_truth.create_samrs_subset(root, "fast", 1, (40, 56))
        (path,) = root.glob("*/*/*/ins/*.pkl")
        path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()), protocol))

    return Format(
        write,
        "*/*/*/ins/*.pkl",
        lambda root: read_all(SamrsBoxes(root=str(root), subset="fast")),
        PICKLE,
    )


def _volume(name: str, damage: Sequence[Damage]) -> Format:
    return Format(
        lambda root: ground_truth.write_volume(root / name, ground_truth.draw_volume()[0]),
        name,
        lambda root: read_all(Volumes(root=str(root))),
        damage,
    )


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


#: By name.
FORMATS: Mapping[str, Format] = {
    "PNG, 8 bits": _pil("a.png"),
    "PNG, palette": _pil("palette.png", "P"),
    "PNG, 16 bits": _image(
        "deep.png", lambda path, a: factories.create_image(path, (40, 56), dtype=np.uint16)
    ),
    "JPEG": _pil("a.jpg", exif=_exif()),
    "JPEG, progressive": _pil("progressive.jpg", progressive=True),
    "TIFF": _tiff("a.tif"),
    "TIFF, tiles, deflate": _tiff("tiles.tif", compression="zlib", tile=(16, 16)),
    "TIFF, 16 bits, BigTIFF": _image(
        "big.tif",
        lambda path, a: tifffile.imwrite(
            path, a.astype(np.uint16) * 9, photometric="rgb", bigtiff=True, rowsperstrip=8
        ),
    ),
    "TIFF, LZW": _pil("lzw.tif", compression="tiff_lzw"),
    "TIFF, zstd, alpha": _raster("alpha.tif", compress="zstd", alpha="YES", photometric="RGB"),
    "TIFF, bands, LERC, float": _raster(
        "lerc.tif", np.float32, compress="lerc_zstd", interleave="band", nodata=9
    ),
    "TIFF, JPEG in tiles": _raster(
        "jpeg.tif",
        count=3,
        compress="jpeg",
        photometric="YCBCR",
        tiled=True,
        blockxsize=32,
        blockysize=16,
    ),
    "TIFF, COG": _raster("cog.tif", count=3, driver="COG"),
    "TIFF as labels": Format(
        lambda root: factories.create_raster(
            root / "a.tif", np.eye(40, 56, dtype=np.int16)[None], compress="lzw"
        ),
        "a.tif",
        lambda root: read_labels(root / "a.tif"),
        BINARY,
    ),
    "JPEG 2000": _raster("a.jp2", count=3),
    "JPEG 2000, 16 bits, codestream": _raster("a.j2k", np.uint16, count=1),
    "VRT called .tif": _beside("a.tif", [_vrt]),
    "TIFF as .msk": _masked(),
    "VRT as .ovr": _beside("a.tif.ovr"),
    ".aux.xml": _beside("a.tif.aux.xml"),
    "WebP": _pil("a.webp"),
    "WebP, lossless": _pil("lossless.webp", lossless=True),
    "BMP": _pil("a.bmp"),
    "index PNG": Format(
        lambda root: factories.create_folder_pair(root, 1, (40, 56), splits=("train",)),
        "ann_dir/train/0.png",
        lambda root: read_labels(root / "ann_dir/train/0.png"),
        BINARY,
    ),
    "labelTxt of DOTA": _boxes(
        lambda root: box_formats.create_dota(root, ["train/P0000"], (40, 56)),
        "train/labelTxt-v2.0/*.txt",
        lambda root: read_all(Dota(root=str(root))),
    ),
    "XML of VOC": _boxes(
        lambda root: box_formats.create_voc(root, 1, (40, 56)),
        "Annotations/*.xml",
        lambda root: read_all(Voc(root=str(root))),
    ),
    "XML of DIOR": _boxes(
        lambda root: box_formats.create_dior(root, (40, 56)),
        "Annotations/Oriented Bounding Boxes/00001.xml",
        lambda root: read_all(Dior(root=str(root))),
    ),
    "XML of FAIR1M": _boxes(
        lambda root: box_formats.create_fair1m(root, (40, 56)),
        "validation/labelXml/*.xml",
        lambda root: read_all(Fair1m(root=str(root))),
    ),
    "XML of HRSC2016": _boxes(
        lambda root: box_formats.create_hrsc2016(root, (40, 56)),
        "Test/Annotations/*.xml",
        lambda root: read_all(Hrsc2016(root=str(root))),
    ),
    "JSON of COCO": _boxes(
        lambda root: box_formats.create_coco(root, 1, (40, 56)),
        "instances.json",
        lambda root: read_all(Coco(root=str(root))),
    ),
    "XML of ICDAR videos": _boxes(
        lambda root: _create_video(root, videos.write_icdar, "a_GT.xml"),
        "a_GT.xml",
        lambda root: read_all(VideoBoxes(root=str(root), annotations="*_GT.xml")),
    ),
    "JSON of BOVText": _boxes(
        lambda root: _create_video(root, videos.write_bovtext, "a.json"),
        "a.json",
        lambda root: read_all(VideoBoxes(root=str(root), annotations="*.json")),
    ),
    "pickle of SAMRS": _pickle(4),
    "pickle of SAMRS, protocol 2": _pickle(2),
    "pickle of SAMRS, protocol 0": _pickle(0),
    "gray map of SAMRS": Format(
        lambda root: ground_truth.create_samrs_subset(root, "sota", 1, (40, 56)),
        "*/*/*/gray/*.png",
        lambda root: read_all(SamrsLabels(root=str(root), subset="sota")),
        BINARY,
    ),
    "NIfTI": _volume("a.nii", NIFTI),
    "NIfTI, gzip": _volume("a.nii.gz", GZIP),
    "CSV": _boxes(
        lambda root: _create_table(root), "boxes.csv", lambda root: read_all(Table(root=str(root)))
    ),
}


def _create_table(root: Path) -> None:
    factories.create_image(root / "images/a.png", (40, 56))
    rows = ["image,x0,y0,x1,y1,category", "a.png,2,3,20,30,tree", "a,10,3.5,24,30,car"]
    (root / "boxes.csv").write_text("\n".join(rows))


def _create_video(root: Path, write: Callable[[Path, np.ndarray], None], name: str) -> None:
    """Two frames in a folder, and their words."""
    video = videos.draw_video(2, (40, 56))
    videos.write_frames(root / "a", video.frames)
    write(root / name, video.quads)


class Mutants:
    """Makes them, below a folder of its own.

    Args:
        folder: where sound datasets are kept, and the mutant of the moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: dict[str, tuple[Path, str]] = {}

    def make(self, name: str, number: int) -> Path:
        """A dataset of the format ``name`` with one damaged file; valid until the next call."""
        chosen = FORMATS[name]
        if name not in self._sound:
            root = self.folder / f"sound_{len(self._sound)}"
            chosen.write(root)
            (file,) = root.glob(chosen.file)
            self._sound[name] = root, file.relative_to(root).as_posix()
        sound, file = self._sound[name]
        rng = np.random.default_rng([number, zlib.crc32(name.encode())])
        root = self.folder / "mutant"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(sound, root)
        data = (root / file).read_bytes()
        kinds = chosen.damage
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            data = kinds[rng.integers(len(kinds))](data, rng)
        (root / file).write_bytes(data)
        return root
