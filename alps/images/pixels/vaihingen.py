"""Read ISPRS Vaihingen: 33 true orthophotos of about 2500 × 2000 pixels at 9 cm, six classes.

2D Semantic Labeling Contest, ISPRS WG III/4 (imagery by the DGPF; Cramer, PFG 2010). The bands near
infrared, red and green are stored as red, green and blue. Names and splits are the same as in
mmsegmentation's tools/dataset_converters/vaihingen.py, but mmsegmentation also trains on the eroded
references.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from alps.images.pixels.isprs import ERODED, FULL, IMAGE, Contest, ContestImages

URL = "https://www.isprs.org/education/benchmarks/UrbanSemLab/2d-sem-label-vaihingen.aspx"
#: The official split. The labels of the test images are now public, so these are "val".
SPLITS = {
    "train": "area1 area3 area5 area7 area11 area13 area15 area17 area21 area23 area26 area28 "
    "area30 area32 area34 area37",
    "val": "area2 area4 area6 area8 area10 area12 area14 area16 area20 area22 area24 area27 "
    "area29 area31 area33 area35 area38",
}
FILE = re.compile(r"top_mosaic_09cm_(area\d+)(_noBoundary)?\.tif")
IMAGES = "top"  # folder of the images; label files have the same names, outside this folder


def identify(path: str) -> tuple[str, str] | None:
    """Return area and kind of a published file, or None for an unknown file.

    Files in the folder ``top`` are images, files elsewhere are references.

    >>> identify("top/top_mosaic_09cm_area1.tif")
    ('area1', 'image')
    >>> identify("gts_for_participants/top_mosaic_09cm_area1.tif")
    ('area1', 'full')
    """
    match = FILE.fullmatch(PurePosixPath(path).name)
    if match is None:
        return None
    plain = IMAGE if PurePosixPath(path).parent.name == IMAGES else FULL
    return match[1], ERODED if match[2] else plain


class Vaihingen(ContestImages):
    """The IRRG orthophotos, 16 for training and 17 for scoring."""

    contest = Contest(
        name="vaihingen",
        title="ISPRS Vaihingen",
        splits=SPLITS,
        identify=identify,
        labels="top_mosaic_09cm_area*.tif for training and top_mosaic_09cm_area*{}.tif for scoring "
        "outside the folder top (ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE.zip and "
        "..._ground_truth_eroded_COMPLETE.zip, each in a separate folder; dataset.eroded=false "
        "uses the full labels for both)",
        where="the image top/top_mosaic_09cm_area1.tif and, outside the folder top, its label "
        "top_mosaic_09cm_area1.tif; download ISPRS_semantic_labeling_Vaihingen.zip and "
        f"ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE.zip from {URL}",
    )
