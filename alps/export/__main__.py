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
    options = parser.parse_args(arguments)
    with one_line_errors(interrupted="nothing was written"):
        tally = export_store(
            LabelStore(options.store), options.to, options.out, images=options.images
        )
        console = Console(highlight=False)
        counts = [f"{tally.images} images, {tally.masks} masks", *_count(tally.groups)]
        console.print(f"{', '.join(counts)} in {options.out}", soft_wrap=True)
        if skipped := _count(tally.skipped):
            console.print(f"skipped: {', '.join(skipped)}", soft_wrap=True)


def _count(counts: Mapping[str, int]) -> list[str]:
    return [f"{n} {noun}" for noun, n in counts.items() if n]


if __name__ == "__main__":
    main()
