"""Measure labelling of rasters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from alps.assign.cluster import Cluster
from alps.features.shape import ShapeFeatures
from alps.images.geo.rasters import Rasters
from alps.masks.auto import AutoMasks
from benchmarks.fake import FakeSegmenter
from benchmarks.growth import measure_label
from benchmarks.measure import one_thread
from benchmarks.terrain import GridMasks, read_texture, write_raster


def parts_of(root: Path, masks: str) -> dict[str, Any]:
    source = (
        GridMasks()
        if masks == "grid"
        else AutoMasks(segmenter=FakeSegmenter(), points_per_side=8, ground=16)
    )
    return {
        "image_set": Rasters(root=str(root)),
        "masks": source,
        "features": ShapeFeatures(),
        "assign": Cluster(k=8, weight="none"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sub = parser.add_subparsers(dest="command", required=True)
    w = sub.add_parser("write")
    w.add_argument("file", type=Path)
    w.add_argument("texture", type=Path)
    w.add_argument("--side", type=int)
    w.add_argument("--empty", action="store_true")
    l = sub.add_parser("label")
    l.add_argument("root", type=Path)
    l.add_argument("store", type=Path)
    l.add_argument("--masks", default="grid")
    args = parser.parse_args()
    one_thread()
    if args.command == "write":
        write_raster(args.file, read_texture(args.texture), side=args.side, empty=args.empty)
    else:
        print(json.dumps(measure_label(args.store, **parts_of(args.root, args.masks))))


if __name__ == "__main__":
    main()
