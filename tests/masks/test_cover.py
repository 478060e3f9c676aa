import numpy as np

from alps.masks.auto import AutoMasks
from alps.masks.cover import CoverMasks
from alps.structures.records import Sample
from tests.fakes import ColorSegmenter, flat_colors

OPTIONS = {"points_per_side": 8, "tile_size": 96, "tile_overlap": 32, "box_nms_thresh": 1.0}


def test_later_passes_cover_what_the_first_refuses():
    """The fake predicts an IoU of 0.95 for everything."""
    sample = Sample("x", flat_colors(96, 150, seed=4))
    strict = {**OPTIONS, "pred_iou_thresh": 0.96}
    assert len(AutoMasks(segmenter=ColorSegmenter(), **strict)(sample)) == 0
    find = CoverMasks(segmenter=ColorSegmenter(), **strict, passes=((0.96, 0.9), (0.9, 0.5)))
    assert find(sample).to_array().any(0).mean() > 0.9


def test_the_first_pass_is_automask_s_own():
    sample = Sample("x", flat_colors(96, 150, seed=5))
    loose = {**OPTIONS, "stability_score_thresh": 0.9}
    first = AutoMasks(segmenter=ColorSegmenter(), **loose)(sample)
    cover = CoverMasks(segmenter=ColorSegmenter(), **loose)(sample)
    assert set(first.counts) <= set(cover.counts)
    assert cover.to_array().any(0).mean() >= first.to_array().any(0).mean()


def test_only_bare_ground_is_prompted_again():
    prompts = []

    class Recording(ColorSegmenter):
        def predict(self, embedding, *, points=None, **options):
            prompts.append(len(points))
            return super().predict(embedding, points=points, **options)

    image = np.zeros((96, 96, 3), np.uint8)
    image[:48] = 200
    find = CoverMasks(segmenter=Recording(), **{**OPTIONS, "points_per_batch": 64}, max_area=0.49)
    find(Sample("x", image))
    assert prompts[0] == 64
    assert all(n <= 64 for n in prompts[1:])
    whole = CoverMasks(segmenter=Recording(), **{**OPTIONS, "points_per_batch": 64})
    prompts.clear()
    whole(Sample("x", image))
    assert prompts == [64]  # all is covered after the first pass


def test_identity_names_the_passes():
    identity = CoverMasks(segmenter=ColorSegmenter(), passes=((0.5, 0.6),)).identity
    assert identity["passes"] == ((0.5, 0.6),)
    assert identity["source"] == "CoverMasks"
