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
  coco   instances_<split>.json, for pycocotools and most detectors: a mask, its
         class, its boxes; ignored objects are crowds
  sa1b   <image>.json as in SA-1B: a mask, its scores, its point; no classes
  samrs  gray/, color/ and ins/ in hbox_segs_init/ or rhbox_segs_init/, and
         train.txt and valid.txt, for SAMRS's own loaders; ins/ is pickled, as
         these want it
  youtube_vis
         instances_<split>.json as in YouTube-VIS: a mask per frame for each track,
         its class, its text; stores of videos only
  overlay
         <video>.mp4 with masks, boxes, tracks and texts drawn over it; of stills
         <image>.jpg

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
        "--out", metavar="DIR", required=True, help="folder to make; it may be there, but empty"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the images, where they have moved (overlay)"
    )
    words = parser.parse_args(arguments)
    with one_line_errors(interrupted="nothing was written"):
        tally = export_store(LabelStore(words.store), words.to, words.out, images=words.images)
        console = Console(highlight=False)
        made = [f"{tally.images} images, {tally.masks} masks", *_count(tally.groups)]
        console.print(f"{', '.join(made)} in {words.out}", soft_wrap=True)
        if left_out := _count(tally.left_out):
            console.print(f"left out: {', '.join(left_out)}", soft_wrap=True)


def _count(things: Mapping[str, int]) -> list[str]:
    return [f"{n} {what}" for what, n in things.items() if n]


if __name__ == "__main__":
    main()
