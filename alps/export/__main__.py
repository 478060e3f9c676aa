"""Write a finished label store in a layout that other tools read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from rich.console import Console

from alps.errors import one_line_errors
from alps.export.layouts import LAYOUTS, export_store
from alps.store.label_store import LabelStore

LAYOUT_HELP = """\
layouts:
  coco   instances_<split>.json, for pycocotools and most detectors: masks with
         classes and boxes; ignored objects have iscrowd=1
  sa1b   <image>.json as in SA-1B: masks with scores and points; no classes
  samrs  gray/, color/ and ins/ in hbox_segs_init/ or rhbox_segs_init/, and
         train.txt and valid.txt, for the data loaders of SAMRS; ins/ contains
         pickle files
  youtube_vis
         instances_<split>.json as in YouTube-VIS: tracks with a mask per frame,
         class and text; only for stores of videos
  overlay
         <video>.mp4, or <image>.jpg for still images, with masks, boxes, tracks
         and texts drawn over the images
  cog    mosaic.tif, or <raster>.tif if the rasters do not share a grid: the index
         maps as Cloud Optimized GeoTIFFs with palette and class names
  gpkg   regions.gpkg (or masks.gpkg with --per mask): polygons with class, area
         in m² and score, for georeferenced images; a .qml file beside holds the
         class colours for QGIS
  geoparquet
         the same as .parquet
  geojson
         the same as .geojson, in longitude and latitude
  flatgeobuf
         the same as .fgb

example:
  python -m alps.export data/dota_seg --to coco --out data/dota_coco
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, export the store and print what was written and skipped."""
    parser = argparse.ArgumentParser(
        prog="python -m alps.export",
        description=__doc__,
        epilog=LAYOUT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", metavar="STORE", help="folder of the store, from label.py")
    parser.add_argument("--to", metavar="LAYOUT", required=True, help=", ".join(LAYOUTS))
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="folder to create; if it exists, it must be empty",
    )
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the images, if they have moved (overlay)"
    )
    parser.add_argument(
        "--per",
        metavar="WHAT",
        default="region",
        help="what becomes a polygon: region (connected pixels of a class) or mask",
    )
    parser.add_argument(
        "--simplify",
        metavar="METRES",
        type=float,
        default=0.0,
        help="tolerance of the outlines of regions (default: the outlines of pixels)",
    )
    options = parser.parse_args(arguments)
    with one_line_errors(interrupted="nothing was written"):
        tally = export_store(
            LabelStore(options.store),
            options.to,
            options.out,
            images=options.images,
            per=options.per,
            simplify=options.simplify,
        )
        console = Console(highlight=False)
        masks = [f"{tally.masks} masks"] if tally.masks or not tally.groups else []
        counts = [f"{tally.images} images", *masks, *_count(tally.groups)]
        console.print(f"{', '.join(counts)} in {options.out}", soft_wrap=True)
        if skipped := _count(tally.skipped):
            console.print(f"skipped: {', '.join(skipped)}", soft_wrap=True)


def _count(counts: Mapping[str, int]) -> list[str]:
    return [f"{n} {noun}" for noun, n in counts.items() if n]


if __name__ == "__main__":
    main()
