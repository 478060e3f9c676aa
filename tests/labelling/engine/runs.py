"""A tiny labelling run, as a function and as a program."""

import time
from dataclasses import dataclass
from pathlib import Path

from alps.assign.cluster import Cluster
from alps.errors import one_line_errors, sigterm_raises
from alps.features.sam import SamFeatures
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors
from tests.pictures import no_pictures

IMAGES = 10


@dataclass
class SlowImages(ArrayImages):
    """Images that take ``pause`` seconds to read, so that a test can interrupt the run."""

    pause: float = 0.0

    def read(self, record):
        time.sleep(self.pause)
        return super().read(record)


def arrays(n=IMAGES):
    sizes = [(64, 64), (48, 80), (100, 40)]
    images = {f"site/{i:02d}": flat_colors(*sizes[i % 3], seed=i) for i in range(n)}
    return {**images, "site/broken": "truncated after 12 bytes"}


def run(root, engine, *, pause=0.0, images=None, features=True):
    """Label tiny images; return the store and the timings."""
    segmenter = ColorSegmenter()
    tiles = {"tile_size": 64, "tile_overlap": 16}
    return label(
        image_set=images or SlowImages(arrays(), pause=pause),
        masks=AutoMasks(
            segmenter=segmenter, points_per_side=4, stability_score_thresh=0.5, ground=0, **tiles
        ),
        features=SamFeatures(segmenter=segmenter, **tiles) if features else None,
        # Several parts that workers share, with weights that make the sums depend on rounding.
        assign=Cluster(k=4, batch_size=1, weight="sqrt_area", pca=3, reject=0.1, niter=4),
        engine=engine,
        root=root,
        name="tiny_pl",
        config="k: 4\n",
    )


def files(root):
    """Return the content of all files of a store by relative path."""
    return {
        p.relative_to(root).as_posix(): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()
    }


def main(store, processes, pause):
    """Label in this module rather than ``__main__``, since a store records the module."""
    with (
        no_pictures(),
        one_line_errors(interrupted="the same command resumes"),
        sigterm_raises(),
    ):
        run(store, LocalEngine(processes=processes, threads=1), pause=pause)
