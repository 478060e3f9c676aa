"""Tiny worlds: images with shapes that a segmenter can find, and datasets as they are published."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import tifffile
from PIL import Image
from pycocotools import mask as coco
from rasterio.errors import NotGeoreferencedWarning


def draw_scene(
    size: tuple[int, int] = (64, 96), seed: int = 0, n_shapes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles and ellipses of plain colours on textured ground.

    Returns:
        RGB uint8 (H, W, 3), and masks bool (n_shapes, H, W), later ones on top.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.normal(size=(max(2, height // 8), max(2, width // 8))).astype(np.float32)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = texture * 8 + rng.normal(scale=4, size=size)
    ground = np.array([90, 120, 70]) + rng.integers(-30, 30, 3)
    image = ground + noise[..., None]
    masks = np.zeros((n_shapes, height, width), dtype=np.uint8)
    for i in range(n_shapes):
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = tuple(
            int(a) for a in rng.integers(max(2, min(size) // 10), max(3, min(size) // 4), 2)
        )
        if i % 2:
            cv2.ellipse(masks[i], center, axes, float(rng.integers(180)), 0, 360, 1, -1)
        else:
            corners = [(center[0] + s * axes[0], center[1] + s * axes[1]) for s in (-1, 1)]
            cv2.rectangle(masks[i], *corners, 1, -1)
        image[masks[i] > 0] = rng.choice([20, 60, 200, 240], 3) + rng.normal(scale=3, size=3)
    return np.clip(image, 0, 255).astype(np.uint8), masks.astype(bool)


def create_image(
    path: Path,
    size: tuple[int, int] = (64, 96),
    seed: int = 0,
    dtype: type = np.uint8,
    channels: int = 3,
) -> np.ndarray:
    """Write a scene of `draw_scene`; the suffix decides on the format.

    uint16 holds 11 bits, float32 lies in [0, 1]; the fourth channel (the second of two) is a ramp.

    Returns:
        What was written, (H, W, channels).
    """
    image = draw_scene(size, seed)[0]
    ramp = np.broadcast_to(np.linspace(0, 255, size[1]).astype(np.uint8), size)
    image = {1: image[..., :1], 2: np.dstack([image[..., 0], ramp]), 3: image}.get(
        channels, np.dstack([image, ramp])
    )
    if dtype == np.uint16:
        image = image.astype(np.uint16) * 8
    elif dtype == np.float32:
        image = image.astype(np.float32) / 255
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        kind = "rgb" if channels >= 3 else "minisblack"
        planar = None if channels == 1 else "contig"
        tifffile.imwrite(path, image.squeeze(), photometric=kind, planarconfig=planar)
    elif dtype == np.uint8:
        Image.fromarray(image.squeeze()).save(path)
    else:
        order = [2, 1, 0, 3][:channels] if channels >= 3 else [0]
        assert cv2.imwrite(str(path), image[..., order])
    return image


def create_raster(path: Path, bands: np.ndarray, **options: Any) -> None:
    """Write (C, H, W) through GDAL: a TIFF, or a lossless JPEG 2000 file.

    Args:
        path: the file; its suffix decides.
        bands: what is written.
        options: of `rasterio.open`, such as compress, nodata or transform.
    """
    lossless = {"driver": "JP2OpenJPEG", "quality": 100, "reversible": "YES"}
    driver = {"driver": "GTiff"} if path.suffix.lower().startswith(".tif") else lossless
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    size = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{**driver, **size, **options}) as file:
            file.write(bands)


def create_vectors(root: Path) -> None:
    """Write town.tif of 64 × 96 px, and labels.geojson with two features in its CRS, in metres."""
    image = draw_scene()[0].transpose(2, 0, 1)
    transform = rasterio.Affine(1, 0, 691_000, 0, -1, 5_334_000)
    create_raster(root / "town.tif", image, crs=rasterio.CRS.from_epsg(32632), transform=transform)
    features = []
    for kind, (x0, y0, x1, y1) in {"tree": (5, 5, 30, 25), "pond": (50, 20, 90, 60)}.items():
        x0, x1, y0, y1 = 691_000 + x0, 691_000 + x1, 5_334_000 - y0, 5_334_000 - y1
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"kind": kind}, "geometry": geometry})
    collection = {"type": "FeatureCollection", "features": features}
    (root / "labels.geojson").write_text(json.dumps(collection))


def create_images(
    root: Path, n: int, size: tuple[int, int] = (64, 96), suffix: str = ".png"
) -> list[Path]:
    """Write ``image_0`` to ``image_{n-1}``, all different."""
    paths = [root / f"image_{i}{suffix}" for i in range(n)]
    for i, path in enumerate(paths):
        create_image(path, size, seed=i)
    return paths


def create_samrs(root: Path, n: int = 3, size: tuple[int, int] = (64, 64)) -> None:
    """Write SAMRS as its authors lay it out: ``n`` images per subset, the last one in valid.txt."""
    layout = {
        "dotav2_1024/trainval": ("images", ".png", "hbox_segs_init", "P{:04d}__1024__0___0"),
        "dior": ("JPEGImages-trainval", ".jpg", "hbox_segs_trainvaltest_init", "{:05d}"),
        "fair1m_1024/trainval": ("images", ".png", "rhbox_segs_init", "{}__1024__0___824"),
    }
    for seed, (folder, (images, suffix, labels, pattern)) in enumerate(layout.items()):
        base = root / folder
        stems = [pattern.format(i) for i in range(n)]
        for i, stem in enumerate(stems):
            create_image(base / images / f"{stem}{suffix}", size, seed=100 * seed + i)
            masks = draw_scene(size, 100 * seed + i)[1]
            _write_samrs_labels(base / labels, stem, masks)
        (base / "train.txt").write_text("".join(f"{stem}\n" for stem in stems[:-1]))
        (base / "valid.txt").write_text(f"{stems[-1]}\n")


def draw_labels(
    size: tuple[int, int] = (64, 96), seed: int = 0, num_classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """A scene with a class per shape on ground of class 0.

    Returns:
        RGB uint8 (H, W, 3), and an index map uint8 (H, W) that holds every class.
    """
    image, masks = draw_scene(size, seed, 2 * num_classes)
    labels = np.zeros(size, np.uint8)
    for i, mask in enumerate(masks):
        labels[mask] = i % num_classes
    labels[0, :num_classes] = range(num_classes)
    return image, labels


def create_folder_pair(
    root: Path,
    n: int = 2,
    size: tuple[int, int] = (64, 96),
    num_classes: int = 4,
    splits: tuple[str, ...] = ("train", "val"),
) -> None:
    """Write ``img_dir/<split>/<i>.jpg`` and index PNGs in ``ann_dir``; the last row is 255."""
    for s, split in enumerate(splits):
        for i in range(n):
            image, labels = draw_labels(size, 10 * s + i, num_classes)
            labels[-1] = 255
            for folder, array, suffix in (("img_dir", image, "jpg"), ("ann_dir", labels, "png")):
                path = root / folder / split / f"{i}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


POTSDAM_COLORS = np.array(
    [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)],
    dtype=np.uint8,
)


def create_potsdam(
    root: Path,
    areas: tuple[str, ...] = ("2_10", "7_9", "2_13"),
    size: tuple[int, int] = (96, 96),
    eroded: bool = True,
) -> dict[str, np.ndarray]:
    """Write ISPRS Potsdam as it is unzipped; the eroded references have a black margin of 2 pixels.

    Returns:
        The index map of each area, clutter as 5.
    """
    maps = {}
    for seed, area in enumerate(areas):
        image, labels = draw_labels(size, seed, 6)
        maps[area] = labels
        color = POTSDAM_COLORS[labels]
        inner = np.zeros_like(color)
        inner[2:-2, 2:-2] = color[2:-2, 2:-2]
        files = {"2_Ortho_RGB": (image, "RGB"), "5_Labels_all": (color, "label")}
        if eroded:
            files["5_Labels_all_noBoundary"] = (inner, "label_noBoundary")
        for folder, (array, kind) in files.items():
            path = root / folder / f"top_potsdam_{area}_{kind}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array, photometric="rgb")
    return maps


ISAID_COLORS = np.array(
    [
        *((0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255)),
        *((0, 127, 63), (0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127)),
        *((0, 127, 191), (0, 127, 255), (0, 100, 155)),
    ],
    dtype=np.uint8,
)


def create_isaid(
    root: Path, sizes: dict[str, tuple[int, int]] | None = None
) -> dict[str, np.ndarray]:
    """Write iSAID as its archives unpack: images of DOTA, instance ids and semantic masks.

    Args:
        root: where to.
        sizes: split and image, as ``train/P0000``, to its size.

    Returns:
        The index map of each image.
    """
    maps = {}
    for seed, (name, size) in enumerate(
        (sizes or {"train/P0000": (80, 120), "val/P0003": (40, 70)}).items()
    ):
        split, stem = name.split("/")
        image, labels = draw_labels(size, seed, 16)
        maps[stem] = labels
        files = {
            f"images/images/{stem}.png": image,
            f"Instance_masks/images/{stem}_instance_id_RGB.png": image,
            f"Semantic_masks/images/{stem}_instance_color_RGB.png": ISAID_COLORS[labels],
        }
        for file, array in files.items():
            path = root / split / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return maps


def _write_samrs_labels(folder: Path, stem: str, masks: np.ndarray) -> None:
    """gray/ and color/ as PNG, ins/ as a pickled list of dicts; 255 and white are background."""
    colors = {0: (0, 127, 255), 1: (0, 63, 0), 255: (255, 255, 255)}
    names = ("large-vehicle", "swimming-pool")
    gray = np.full(masks.shape[1:], 255, dtype=np.uint8)
    color = np.full((*masks.shape[1:], 3), 255, dtype=np.uint8)
    instances = []
    for i, mask in enumerate(masks):
        label = i % 2
        gray[mask], color[mask] = label, colors[label]
        rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        instances.append(
            {
                "mask": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                "bbox": np.array(box, dtype=np.float32),
                "category": names[label],
                "label": label,
                "size": int(mask.sum()),
            }
        )
    for kind in ("gray", "color", "ins"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(gray).save(folder / "gray" / f"{stem}.png")
    Image.fromarray(color).save(folder / "color" / f"{stem}.png")
    (folder / "ins" / f"{stem}.pkl").write_bytes(pickle.dumps(instances))
