import numpy as np

from alps.masks.auto import AutoMasks
from alps.structures.records import Sample
from tests.fakes import ColorSegmenter, flat_colors

OPTIONS = {
    "points_per_side": 8,
    "tile_size": 96,
    "tile_overlap": 32,
    "box_nms_thresh": 1.0,
    "ground": 0,
}
PASSES = ((0.8, 0.9), (0.7, 0.8), (0.5, 0.6))


def test_further_passes_cover_what_the_first_rejects():
    """The fake predicts an IoU of 0.95 for everything."""
    sample = Sample("x", flat_colors(96, 150, seed=4))
    strict = {**OPTIONS, "pred_iou_thresh": 0.96}
    assert len(AutoMasks(segmenter=ColorSegmenter(), **strict)(sample)) == 0
    find = AutoMasks(segmenter=ColorSegmenter(), **strict, passes=((0.96, 0.9), (0.9, 0.5)))
    assert find(sample).to_array().any(0).mean() > 0.9


def test_further_passes_keep_the_masks_of_the_first():
    sample = Sample("x", flat_colors(96, 150, seed=5))
    loose = {**OPTIONS, "stability_score_thresh": 0.9}
    first = AutoMasks(segmenter=ColorSegmenter(), **loose)(sample)
    cover = AutoMasks(segmenter=ColorSegmenter(), **loose, passes=PASSES)(sample)
    assert set(first.counts) <= set(cover.counts)
    assert cover.to_array().any(0).mean() >= first.to_array().any(0).mean()


def test_only_uncovered_points_are_prompted_again():
    prompts = []

    class Recording(ColorSegmenter):
        def predict(self, embedding, *, points=None, **options):
            prompts.append(len(points))
            return super().predict(embedding, points=points, **options)

    image = np.zeros((96, 96, 3), np.uint8)
    image[:48] = 200
    options = {**OPTIONS, "points_per_batch": 64, "passes": PASSES}
    find = AutoMasks(segmenter=Recording(), **options, max_area=0.49)
    find(Sample("x", image))
    assert prompts[0] == 64
    assert all(n <= 64 for n in prompts[1:])
    whole = AutoMasks(segmenter=Recording(), **options)
    prompts.clear()
    whole(Sample("x", image))
    assert prompts == [64]  # all is covered after the first pass


def test_further_passes_have_the_identity_of_earlier_versions():
    """These had a class of their own for further passes, CoverMasks."""
    identity = AutoMasks(segmenter=ColorSegmenter(), passes=((0.5, 0.6),)).identity
    assert identity["passes"] == [[0.5, 0.6]]
    assert identity["source"] == "CoverMasks"
    one_pass = AutoMasks(segmenter=ColorSegmenter()).identity
    assert one_pass["source"] == "AutoMasks"
    assert "passes" not in one_pass
