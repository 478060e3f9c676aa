"""Read ISPRS Potsdam: 38 true orthophotos of 6000 × 6000 pixels at 5 cm, six classes.

2D Semantic Labeling Contest, ISPRS WG III/4 (imagery by BSF Swissphoto).
"""

from __future__ import annotations

import re

from alps.images.pixels.isprs import ERODED, FULL, IMAGE, Contest, ContestImages

URL = "https://www.isprs.org/education/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx"
#: The official split. The labels of the test images are now public, so these are "val".
SPLITS = {
    "train": "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 "
    "6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12",
    "val": "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
}
FILE = re.compile(r"top_potsdam_(\d+_\d+)_(RGB|label|label_noBoundary)\.tif")
_KINDS = {"RGB": IMAGE, "label": FULL, "label_noBoundary": ERODED}


def identify(path: str) -> tuple[str, str] | None:
    """Return area and kind of a published file, or None for an unknown file.

    >>> identify("2_Ortho_RGB/top_potsdam_2_10_RGB.tif")
    ('2_10', 'image')
    """
    match = FILE.fullmatch(path.rsplit("/", 1)[-1])
    return (match[1], _KINDS[match[2]]) if match else None


class Potsdam(ContestImages):
    """The RGB orthophotos, 24 for training and 14 for scoring."""

    contest = Contest(
        name="potsdam",
        title="ISPRS Potsdam",
        splits=SPLITS,
        identify=identify,
        labels="top_potsdam_*_label.tif for training and top_potsdam_*_label{}.tif for scoring "
        "(5_Labels_all.zip, 5_Labels_all_noBoundary.zip; dataset.eroded=false uses the full labels "
        "for both)",
        where="top_potsdam_2_10_RGB.tif, top_potsdam_2_10_label.tif and so on; download "
        f"2_Ortho_RGB.zip and 5_Labels_all.zip from {URL}",
    )
