"""Read every TIFF encoding three times and compare with tifffile and imagecodecs.

python -m benchmarks.encodings

Exits with status 1 and names the encodings that were read incorrectly.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def main() -> None:
    from tests.matrix.encodings import check, list_encodings

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of GDAL's tags
    start = time.perf_counter()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for encoding in list_encodings():
            outcome = check(encoding, Path(folder))
            counts[outcome.partition(":")[0]] += 1
            if outcome.startswith("wrong"):
                print(f"{encoding}: {outcome}")
    print(
        f"tried {counts.total()}, equal {counts['equal']}, refused in a line {counts['refused']}, "
        f"wrong {counts['wrong']}, in {time.perf_counter() - start:.0f} s"
    )
    sys.exit(bool(counts["wrong"]))


if __name__ == "__main__":
    main()
