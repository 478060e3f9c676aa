"""The report page of a store: each function turns counts into the values of a section."""

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
from alps.report.counts.census import AREA_EDGES, SKIPPED, Census, take_census
from alps.report.counts.histogram import half_below
from alps.report.pages.rendering import render
from alps.report.pictures.album import make_album
from alps.store.label_store import ImageStatus, LabelStore
from alps.store.labelled import is_labelled
from alps.structures.records import Category

BAND = 256  # the most classes in the band of colours, the largest first
LONGEST = 300  # the most characters of an error to show


def write_report(
    store: LabelStore,
    image_set: ImageSet,
    *,
    census: Census | None = None,
    name: str = "report.html",
) -> Path:
    """Write a self-contained page about a finished store into it.

    The page needs no network and no script, and holds no time, host or absolute path: the same
    store gives the same bytes. Its size does not grow with the store: numbers cover the whole
    store, and pictures a fixed number of images spread over it.

    Args:
        store: a label store in which all stages have run.
        image_set: the image set that the store was made from; images that cannot be read are not
            shown.
        census: the counts of the store; None takes them.
        name: the file to write, relative to the store.

    Returns:
        The path of the page.

    Raises:
        StoreError: a part of the store cannot be read, or the page cannot be written.
    """
    from alps.report.charts.figures import draw_maps, plots, to_svg

    census = census or take_census(store)
    categories = store.categories() if is_labelled(store) else []
    album = make_album(store, image_set, census, [c.color for c in categories])
    maps = heat.heat_maps(census, categories)
    html = render(
        "page.html.jinja",
        store=store.info,
        clustered=store.clusters() is not None,
        categories=categories,
        census=census,
        album=album,
        tiles=tiles(census, categories),
        band=band(census, categories),
        classes=classes(census, categories),
        plots=plots(distributions(census, categories).values()),
        boxes=box_section(census.boxes, categories) if census.boxes else None,
        box_plots=plots(box_charts(census.boxes).values()) if census.boxes else [],
        maps=to_svg(draw_maps(maps)) if maps else "",
        border=heat.finding(census) if maps else "",
        findings=store.findings() or [],
        skipped=skipped(census, [str(image_set.root), str(store.root), str(store.root.resolve())]),
        lowest=[(s.image_id, s.n_masks, s.coverage) for s in census.lowest],
        recipe=recipe(store, image_set),
        command=command(store),
        choose_k=(store.root / "choose_k.html").exists(),
        evaluated=(store.root / "evaluation.html").exists(),
    )
    with store.writing(name) as file:
        file.write(html.encode())
    return store.root / name


def tiles(census: Census, categories: Sequence[Category]) -> list[tuple[str, str, str]]:
    """Return (label, value, note) of the main numbers."""
    images, readable = census.images, census.masks_per_image.total()
    main = [
        (
            "images",
            count(images.total()),
            f"{count(images['ok'])} ok, {count(images['empty'])} empty, "
            f"{count(images['failed'])} failed",
        ),
        ("image size", *_sizes(census)),
        (
            "masks",
            count(census.masks),
            f"half below {percent(half_below(census.areas, AREA_EDGES))} of an image"
            if census.masks
            else "",
        ),
        (
            "masks per image",
            decimal(census.masks / max(readable, 1)),
            f"median {count(median(census.masks_per_image))}, "
            f"most {count(max(census.masks_per_image, default=0))}",
        ),
        (
            "coverage",
            percent(census.covered / max(census.pixels, 1)),
            f"of {'the pixels with data' if census.nodata else 'all pixels'} are in a mask",
        ),
    ]
    if census.nodata:
        blank = f", {count(census.blank)} of them without data" if census.blank else ""
        where = "image" if census.nodata_images == 1 else "images"
        main.append(
            (
                "no data",
                percent(census.nodata / (census.nodata + census.pixels)),
                f"of all pixels, in {count(census.nodata_images)} {where}{blank}",
            )
        )
    if categories:
        unlabelled = census.masks - int(census.class_masks.sum())
        used = f"of {count(len(categories))} hold masks"
        rest = f", {count(unlabelled)} masks in none" if unlabelled else ""
        main.append(("classes", count(len(census.by_size)), used + rest))
    return main


def band(census: Census, categories: Sequence[Category]) -> list[tuple[Category, float]]:
    """Return the largest classes by pixels, with their shares of the labelled pixels."""
    pixels = census.class_pixels
    order = np.argsort(-pixels, kind="stable")[:BAND]
    return [(categories[c], pixels[c] / pixels.sum()) for c in order if pixels[c]]


def classes(census: Census, categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return the numbers of each class with masks, the largest first."""
    masks, pixels = int(census.class_masks.sum()), max(int(census.class_pixels.sum()), 1)
    return [
        {
            "category": categories[c],
            "masks": int(census.class_masks[c]),
            "share": census.class_masks[c] / masks,
            "pixels": census.class_pixels[c] / pixels,
            "distance": float(census.class_distance[c]),
        }
        for c in census.by_size
    ]


def skipped(census: Census, roots: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (image id, status, reason) of the first images without labels, failed ones first."""
    rows = [*census.failed, *census.empty][:SKIPPED]
    return [
        (s.image_id, s.status, without_paths(s.error or _no_mask(s), roots)[:LONGEST]) for s in rows
    ]


def _no_mask(status: ImageStatus) -> str:
    """Return why an image that was read has no mask."""
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


def _sizes(census: Census) -> tuple[str, str]:
    """Return the smallest size as W × H, and a note with the largest."""
    if census.smallest is None or census.largest is None:
        return "none", "no image could be read"
    (h, w), (height, width) = census.smallest, census.largest
    pixels = f"{decimal((census.pixels + census.nodata) / 1e6)} megapixels in all"
    if (h, w) == (height, width):
        return f"{w} \N{MULTIPLICATION SIGN} {h}", pixels
    return (
        f"{w} \N{MULTIPLICATION SIGN} {h}",
        f"to {width} \N{MULTIPLICATION SIGN} {height}, {pixels}",
    )


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as flat rows, without the folders of paths and the ends of digests."""
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
    """Remove the folders of the machine from a message, those in ``roots`` and absolute ones."""
    for root in sorted(roots, key=len, reverse=True):
        if folder := root.rstrip("/"):
            text = text.replace(folder + "/", "")
    return re.sub(r"(?<![\w.:/])/(?:[^\s/]+/)+", "…/", text)
