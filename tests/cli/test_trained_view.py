"""A label store keeps its view, so a test of it with another one is reported."""

import logging
from dataclasses import replace

from alps.assign.cluster import Cluster
from alps.cli.trained_view import warn_of_other_view
from alps.features.shape import ShapeFeatures
from alps.images import Rasters, StoredLabels
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks import AutoMasks
from alps.rasters.view import View
from tests.fakes import ColorSegmenter
from tests.geo_rasters import create_geo_raster, draw_bands


def test_a_store_with_another_view(tmp_path, caplog):
    create_geo_raster(tmp_path / "in/a.tif", draw_bands(3))
    images = Rasters(root=str(tmp_path / "in"), rgb=[3, 2, 1], stretch=[[0.0, 3000.0]])
    masks = AutoMasks(segmenter=ColorSegmenter(), points_per_side=4, ground=16)
    parts = {"masks": masks, "features": ShapeFeatures(), "assign": Cluster(k=2)}
    label(
        image_set=images,
        **parts,
        engine=LocalEngine(threads=1),
        root=tmp_path / "x",
        name="x",
        config="",
    )
    stored, view = StoredLabels(root=str(tmp_path / "x")), View.from_json(images.view)
    with caplog.at_level(logging.WARNING):
        warn_of_other_view(stored, view)
        warn_of_other_view(stored, None)
        assert not caplog.messages
        warn_of_other_view(stored, replace(view, gsd=0.5))
    seen = "the bands 3, 2, 1, stretched from (0, 3000) to (0, 255)"
    assert caplog.messages[0].startswith(
        f"x is read as it was labelled ({seen}), but the model was trained on {seen}, at 0.5 m per "
        "pixel; label the rasters with the same dataset.rgb"
    )
