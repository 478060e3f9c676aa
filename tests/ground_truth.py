"""Tiny datasets with ground truth, in the layout, names and values of those that are published.

The source of each format is cited by its reader in alps/images.
"""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image
from pycocotools import mask as coco

from alps.images.samrs.labels import CLASSES, COLORS
from tests.factories import draw_labels, draw_scene

#: From voxels to millimetres as scanners write it: x to the left, y to the back, z to the head.
LPS = np.diag([-1.5, -1.5, 3.0, 1.0])
#: Impervious surface, building, low vegetation, tree, car, clutter.
ISPRS_COLORS = np.array(
    [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)],
    dtype=np.uint8,
)


def create_vaihingen(
    root: Path,
    areas: tuple[str, ...] = ("area1", "area30", "area2"),
    size: tuple[int, int] = (96, 80),
    eroded: bool = True,
) -> dict[str, np.ndarray]:
    """Write ISPRS Vaihingen as it is unzipped; eroded references have a black margin of 2 pixels.

    Images and references have the same names in different folders, and there is a surface model.

    Returns:
        The index map of each area, clutter as 5.
    """
    truth = "ISPRS_semantic_labeling_Vaihingen_ground_truth"
    maps = {}
    for seed, area in enumerate(areas):
        image, labels = draw_labels(size, seed, 6)
        maps[area] = labels
        color = ISPRS_COLORS[labels]
        inner = np.zeros_like(color)
        inner[2:-2, 2:-2] = color[2:-2, 2:-2]
        name = f"top_mosaic_09cm_{area}"
        _write_tiff(root / "top" / f"{name}.tif", image)
        _write_tiff(root / "dsm" / f"dsm_09cm_matching_{area}.tif", image)
        _write_tiff(root / f"{truth}_COMPLETE" / f"{name}.tif", color)
        if eroded:
            _write_tiff(root / f"{truth}_eroded_COMPLETE" / f"{name}_noBoundary.tif", inner)
    return maps


def create_loveda(root: Path, size: tuple[int, int] = (64, 96)) -> dict[str, np.ndarray]:
    """Write Train, Val and Test, an image in each domain; the last row of masks is no data.

    Returns:
        The mask of each image of Train and Val: 0 for no data, 1 to 7.
    """
    maps = {}
    for seed, part in enumerate(("Train", "Val", "Test")):
        for i, domain in enumerate(("Rural", "Urban")):
            image, labels = draw_labels(size, 2 * seed + i, 7)
            mask = labels + 1
            mask[-1] = 0
            stem = str(2522 * seed + 1366 * i)  # numbers go on from part to part
            _write_png(root / part / domain / "images_png" / f"{stem}.png", image)
            if part != "Test":
                _write_png(root / part / domain / "masks_png" / f"{stem}.png", mask)
                maps[f"{part}/{domain}/{stem}"] = mask
    return maps


#: Folder, images, suffix, labels and name of an image of each subset.
SAMRS = {
    "sota": ("dotav2_1024/trainval", "images", ".png", "hbox_segs_init", "P{:04d}__1024__0___0"),
    "sior": ("dior", "JPEGImages-trainval", ".jpg", "hbox_segs_trainvaltest_init", "{:05d}"),
    "fast": ("fair1m_1024/trainval", "images", ".png", "rhbox_segs_init", "{}__1024__0___824"),
}


def create_samrs_subset(
    root: Path, subset: str, n: int = 3, size: tuple[int, int] = (64, 96)
) -> dict[str, list[np.ndarray]]:
    """Write a subset of SAMRS with its labels, the last image in valid.txt.

    Objects of image ``i`` have the classes ``i``, the last, and 0. In ``ins/`` there are NumPy's
    arrays and scalars, as its authors' programs write them.

    Returns:
        The masks of the objects by the name of the image.
    """
    folder, images, suffix, labels, pattern = SAMRS[subset]
    base, stems = root / folder, [pattern.format(i) for i in range(n)]
    truth = {}
    for i, stem in enumerate(stems):
        image, masks = draw_scene(size, i, 3)
        truth[stem] = [mask for mask in masks if mask.any()]
        gray = np.full(size, 255, np.uint8)
        color = np.full((*size, 3), 255, np.uint8)
        rows = []
        for j, mask in enumerate(truth[stem]):
            label = (i, len(CLASSES[subset]) - 1, 0)[j]
            gray[mask], color[mask] = label, COLORS[label]
            rows.append(_instance(mask, label, subset))
        path = base / images / f"{stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        _write_png(base / labels / "gray" / f"{stem}.png", gray)
        _write_png(base / labels / "color" / f"{stem}.png", color)
        ins = base / labels / "ins" / f"{stem}.pkl"
        ins.parent.mkdir(parents=True, exist_ok=True)
        ins.write_bytes(pickle.dumps(rows, protocol=4))
    (base / "train.txt").write_text("".join(f"{stem}\n" for stem in stems[:-1]))
    (base / "valid.txt").write_text(f"{stems[-1]}\n")
    return truth


def _instance(mask: np.ndarray, label: int, subset: str) -> dict[str, object]:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    box = np.array([x0, y0, x1, y1], np.float64)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    return {
        "mask": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        **({"rbox": corners, "rhbox": box} if subset == "fast" else {"bbox": box}),
        "category": CLASSES[subset][label],
        "label": label,
        "size": mask.sum(),
    }


def draw_volume(
    shape: tuple[int, int, int] = (64, 48, 3), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A body with a liver and a tumour in it; the last slice is brighter than the others.

    Returns:
        int16 values and uint8 labels (X, Y, Z), x to the right, y to the front, z to the head.
    """
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(shape)
    values = rng.integers(20, 60, shape)
    labels = np.zeros(shape, np.uint8)
    for label, (cx, cy, radius) in {1: (0.7, 0.5, 0.25), 2: (0.75, 0.6, 0.08)}.items():
        inside = (x - cx * shape[0]) ** 2 + (y - cy * shape[1]) ** 2 < (radius * shape[1]) ** 2
        labels[inside] = label
        values[inside] += 300 * label
    return (values + 200 * (z == shape[2] - 1)).astype(np.int16), labels


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray = LPS) -> None:
    """Write values (X, Y, Z) of `draw_volume` as a scanner stores them under ``affine``."""
    turn = nibabel.orientations.io_orientation(affine)
    back = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(("R", "A", "S")), turn
    )
    stored = nibabel.orientations.apply_orientation(values, back)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(stored, affine).to_filename(path)


def create_atlas2023(root: Path, numbers: tuple[int, ...] = (0, 1, 10)) -> dict[str, np.ndarray]:
    """Write the training set as its archive unpacks; every volume has three slices.

    Returns:
        The labels (X, Y, Z) of each volume, turned as `draw_volume` does.
    """
    truth = {}
    for number in numbers:
        values, truth[f"im{number}"] = draw_volume(seed=number)
        base = root / "atlas-train-dataset-1.0.1/train"
        write_volume(base / "imagesTr" / f"im{number}.nii.gz", values)
        write_volume(base / "labelsTr" / f"lb{number}.nii.gz", truth[f"im{number}"])
    return truth


def cut_short(path: Path, share: float = 0.6) -> None:
    """Leave out the end of a file, as a broken download does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def unzip(path: Path) -> None:
    """As gunzip does."""
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def _write_tiff(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, photometric="rgb")


def _write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
