"""Label small generated images with the fake segmenter."""

from pathlib import Path

from alps.assign.cluster import Cluster
from alps.features.sam import SamFeatures
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors


def images(n=6):
    sizes = [(64, 64), (48, 80), (100, 40)]
    return {f"site/{i}": flat_colors(*sizes[i % 3], seed=i) for i in range(n)}


def run(
    root,
    arrays,
    *,
    segmenter=None,
    k=4,
    points_per_side=5,
    max_area=1.0,
    seed=0,
    assign=None,
    with_features=True,
    **options,
):
    segmenter = segmenter or ColorSegmenter()
    tiles = {"tile_size": 64, "tile_overlap": 16}
    store, _ = label(
        image_set=ArrayImages(arrays) if isinstance(arrays, dict) else arrays,
        masks=AutoMasks(
            segmenter=segmenter,
            points_per_side=points_per_side,
            stability_score_thresh=0.5,
            ground=0,
            max_area=max_area,
            **tiles,
        ),
        features=SamFeatures(segmenter=segmenter, **tiles) if with_features else None,
        assign=assign or Cluster(k=k, seed=seed),
        engine=LocalEngine(threads=1),
        root=root,
        name="tiny_pl",
        config="k: 4\n",
        **options,
    )
    return store


def files(root):
    return {
        p.relative_to(root).as_posix(): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()
    }
