"""The report page of a store; each function returns the values of a section."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from alps.protocols import ImageSet
from alps.report.charts import heat
from alps.report.charts.boxes import box_charts, box_section
from alps.report.charts.distributions import distributions, median
from alps.report.charts.numbers import count, decimal, percent
from alps.report.counts.histogram import half_below
from alps.report.counts.statistics import AREA_EDGES, SKIPPED, StoreStatistics, compute_statistics
from alps.report.pages.rasters import raster_section
from alps.report.pages.rendering import render
from alps.report.pictures.album import make_album
from alps.store.label_store import LabelStore
from alps.store.labelled import is_labelled
from alps.store.layout import ImageStatus
from alps.structures.records import Category

BAND = 256  # maximum number of classes in the band of colours, the largest first
LONGEST = 300  # maximum number of characters of an error message


def write_report(
    store: LabelStore,
    image_set: ImageSet,
    *,
    statistics: StoreStatistics | None = None,
    name: str = "report.html",
) -> Path:
    """Write a self-contained page about a finished store into the store.

    The page needs no network and no script, and contains no time, host or absolute path: the same
    store gives the same bytes. The size of the page does not grow with the store: it shows pictures
    of a fixed number of images, and numbers about the entire store.

    Args:
        store: a label store in which all stages have run.
        image_set: the image set that the store was made from; images that cannot be read are not
            shown.
        statistics: the statistics of the store. None: they are computed.
        name: the file to write, relative to the store.

    Returns:
        The path of the page.

    Raises:
        StoreError: a part of the store cannot be read, or the page cannot be written.
    """
    from alps.report.charts.figures import draw_maps, plots, to_svg

    statistics = statistics or compute_statistics(store)
    categories = store.categories() if is_labelled(store) else []
    album = make_album(store, image_set, statistics, [c.color for c in categories])
    maps = heat.heat_maps(statistics, categories)
    html = render(
        "page.html.jinja",
        store=store.info,
        clustered=store.clusters() is not None,
        categories=categories,
        statistics=statistics,
        album=album,
        tiles=tiles(statistics, categories),
        band=band(statistics, categories),
        classes=classes(statistics, categories),
        plots=plots(distributions(statistics, categories).values()),
        rasters=raster_section(statistics.rasters, categories) if statistics.rasters else None,
        boxes=box_section(statistics.boxes, categories) if statistics.boxes else None,
        box_plots=plots(box_charts(statistics.boxes).values()) if statistics.boxes else [],
        maps=to_svg(draw_maps(maps)) if maps else "",
        border=heat.finding(statistics) if maps else "",
        findings=store.findings() or [],
        skipped=skipped(
            statistics, [str(image_set.root), str(store.root), str(store.root.resolve())]
        ),
        lowest=[(s.image_id, s.n_masks, s.coverage) for s in statistics.lowest],
        recipe=recipe(store, image_set),
        command=command(store),
        choose_k=(store.root / "choose_k.html").exists(),
        evaluated=(store.root / "evaluation.html").exists(),
    )
    with store.writing(name) as file:
        file.write(html.encode())
    return store.root / name


def tiles(
    statistics: StoreStatistics, categories: Sequence[Category]
) -> list[tuple[str, str, str]]:
    """Return (label, value, note) of the main numbers."""
    images, readable = statistics.images, statistics.masks_per_image.total()
    main = [
        (
            "images",
            count(images.total()),
            f"{count(images['ok'])} ok, {count(images['empty'])} empty, "
            f"{count(images['failed'])} failed",
        ),
        ("image size", *_sizes(statistics)),
        (
            "masks",
            count(statistics.masks),
            f"half below {percent(half_below(statistics.areas, AREA_EDGES))} of an image"
            if statistics.masks
            else "",
        ),
        (
            "masks per image",
            decimal(statistics.masks / max(readable, 1)),
            f"median {count(median(statistics.masks_per_image))}, "
            f"most {count(max(statistics.masks_per_image, default=0))}",
        ),
        (
            "coverage",
            percent(statistics.covered / max(statistics.pixels, 1)),
            f"of {'the pixels with data' if statistics.nodata else 'all pixels'} are in a mask",
        ),
    ]
    if statistics.nodata:
        blank = f", {count(statistics.blank)} of them without data" if statistics.blank else ""
        where = "image" if statistics.nodata_images == 1 else "images"
        main.append(
            (
                "no data",
                percent(statistics.nodata / (statistics.nodata + statistics.pixels)),
                f"of all pixels, in {count(statistics.nodata_images)} {where}{blank}",
            )
        )
    if categories:
        unlabelled = statistics.masks - int(statistics.class_masks.sum())
        used = f"of {count(len(categories))} have masks"
        note = f", {count(unlabelled)} masks have no class" if unlabelled else ""
        main.append(("classes", count(len(statistics.by_size)), used + note))
    return main


def band(
    statistics: StoreStatistics, categories: Sequence[Category]
) -> list[tuple[Category, float]]:
    """Return the largest classes, with their fractions of the labelled pixels."""
    pixels = statistics.class_pixels
    order = np.argsort(-pixels, kind="stable")[:BAND]
    return [(categories[c], pixels[c] / pixels.sum()) for c in order if pixels[c]]


def classes(statistics: StoreStatistics, categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return the numbers of each class with masks, the largest first."""
    masks, pixels = int(statistics.class_masks.sum()), max(int(statistics.class_pixels.sum()), 1)
    return [
        {
            "category": categories[c],
            "masks": int(statistics.class_masks[c]),
            "fraction": statistics.class_masks[c] / masks,
            "pixels": statistics.class_pixels[c] / pixels,
            "distance": float(statistics.class_distance[c]),
        }
        for c in statistics.by_size
    ]


def skipped(statistics: StoreStatistics, roots: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (image id, status, reason) of the first images without labels, failed ones first."""
    rows = [*statistics.failed, *statistics.empty][:SKIPPED]
    return [
        (s.image_id, s.status, without_paths(s.error or _no_mask(s), roots)[:LONGEST]) for s in rows
    ]


def _no_mask(status: ImageStatus) -> str:
    """Return why a readable image has no mask."""
    return "no mask was found" if status.pixels else "all of its pixels are no data"


def recipe(store: LabelStore, image_set: ImageSet) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return (title, fingerprint, settings) of the images, the versions and each stage."""
    images = store.info.images
    return [
        ("images", images.get("fingerprint", ""), [("name", image_set.name)]),
        ("versions", "", list(_settings(store.info.versions))),
        *(
            (name, stage["fingerprint"], list(_settings(stage["identity"])))
            for name, stage in store.info.stages.items()
        ),
    ]


def command(store: LabelStore) -> str:
    """Return the command that trains on the store."""
    folder = shlex.quote(store.root.resolve().name)
    return f"python train.py stage=pretrain dataset=store dataset.root={folder}"


def _sizes(statistics: StoreStatistics) -> tuple[str, str]:
    """Return the smallest size as W × H, and a note with the largest."""
    if statistics.smallest is None or statistics.largest is None:
        return "none", "no image could be read"
    (h, w), (height, width) = statistics.smallest, statistics.largest
    pixels = f"{decimal((statistics.pixels + statistics.nodata) / 1e6)} megapixels in all"
    if (h, w) == (height, width):
        return f"{w} \N{MULTIPLICATION SIGN} {h}", pixels
    return (
        f"{w} \N{MULTIPLICATION SIGN} {h}",
        f"to {width} \N{MULTIPLICATION SIGN} {height}, {pixels}",
    )


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as flat rows; paths are reduced to names, and digests shortened."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            parts = value if isinstance(value, list) else [value]
            yield prefix + key, ", ".join(_setting(part) for part in parts)


def _setting(value: object) -> str:
    text = "none" if value is None else str(value)
    if PurePath(text).is_absolute():
        text = PurePath(text).name
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1…", text)


def without_paths(text: str, roots: Sequence[str]) -> str:
    """Remove the folders in ``roots``, and absolute folders, from the paths in a message."""
    for root in sorted(roots, key=len, reverse=True):
        if folder := root.rstrip("/"):
            text = text.replace(folder + "/", "")
    return re.sub(r"(?<![\w.:/])/(?:[^\s/]+/)+", "…/", text)
