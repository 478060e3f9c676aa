"""Write a finished label store in a layout that other tools read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from alps.errors import one_line_errors
from alps.export.layouts import LAYOUTS, export_store
from alps.store import LabelStore

LAYOUT_HELP = """\
layouts:
  coco   instances_<split>.json, for pycocotools and most detectors: a mask, its
         class, its boxes; ignored objects are crowds
  sa1b   <image>.json as in SA-1B: a mask, its scores, its point; no classes
  samrs  gray/, color/ and ins/ in hbox_segs_init/ or rhbox_segs_init/, and
         train.txt and valid.txt, for SAMRS's own loaders; ins/ is pickled, as
         these want it

example:
  python -m alps.export data/dota_seg --to coco --out data/dota_coco
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the words, export, say what was done."""
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
    words = parser.parse_args(arguments)
    with one_line_errors(interrupted="nothing was written"):
        tally = export_store(LabelStore(words.store), words.to, words.out)
        console = Console(highlight=False)
        console.print(f"{tally.images} images, {tally.masks} masks in {words.out}", soft_wrap=True)
        if left_out := ", ".join(f"{n} {reason}" for reason, n in tally.left_out.items() if n):
            console.print(f"left out: {left_out}")


if __name__ == "__main__":
    main()
