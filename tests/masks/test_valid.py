"""Masks of images that hold no-data: cut or dropped, and nothing is computed where nothing is."""

import numpy as np
import pytest

from alps.masks.auto import AutoMasks
from alps.masks.box import BoxMasks
from alps.masks.superpixels import add_superpixels
from alps.masks.valid import cut_window, keep_data
from alps.structures import rle
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import Sample
from tests.fakes import BoxSegmenter, ColorSegmenter, flat_colors

SIZE = (64, 96)
TILES = {"tile_size": 64, "tile_overlap": 16}


def right_of(column, size=SIZE):
    valid = np.zeros(size, bool)
    valid[:, column:] = True
    return valid


def bars(*spans, size=SIZE):
    dense = np.zeros((len(spans), *size), bool)
    for mask, (x0, x1) in zip(dense, spans, strict=True):
        mask[10:20, x0:x1] = True
    return Masks.from_array(dense)


def test_masks_are_cut_and_those_of_mostly_no_data_dropped():
    """Of 20 columns 20, 11, 10 and 9 hold data; the empty mask was none before."""
    masks = bars((50, 70), (41, 61), (40, 60), (39, 59), (0, 20), (5, 5))
    kept = keep_data(masks, right_of(50))
    assert kept.xyxy[:, [0, 2]].tolist() == [[50, 70], [50, 61], [50, 60], [0, 0]]
    assert kept.area.tolist() == [200, 110, 100, 0]
    assert kept.counts[0] is masks.counts[0]
    assert not (kept.to_array() & ~right_of(50)).any()
    again = keep_data(kept, right_of(50))
    assert again.counts == kept.counts
    assert keep_data(masks, None) is masks


def test_a_window_goes_by_the_same_rule():
    for span in ((41, 61), (40, 60), (39, 59)):
        mask = bars(span)
        part = cut_window(mask.to_array()[0], right_of(50))
        kept = keep_data(mask, right_of(50))
        assert (part is None) == (len(kept) == 0)
        if part is not None:
            np.testing.assert_array_equal(part, kept.to_array()[0])


def automatic(segmenter=None, **options):
    return AutoMasks(
        segmenter=segmenter or ColorSegmenter(),
        points_per_side=8,
        stability_score_thresh=0.5,
        box_nms_thresh=1.0,
        **{"ground": 0, **TILES, **options},
    )


@pytest.mark.parametrize("passes", [(), ((0.7, 0.8),)])
@pytest.mark.parametrize("options", [{"ground": 8}, {"crop_n_layers": 1}, {"screen": True}])
def test_masks_lie_on_data_whatever_lies_under_the_rest(passes, options):
    image, valid = flat_colors(*SIZE, seed=3), right_of(40)
    rng = np.random.default_rng(0)
    found = []
    for under in (0, 255, rng.integers(0, 256, (64, 40, 3))):
        image[:, :40] = under
        found.append(automatic(passes=passes, **options)(Sample("a", image, valid=valid)))
    dense = found[0].to_array()
    assert not (dense & ~valid).any()
    assert dense.any(0)[valid].mean() > 0.9
    assert found[0].counts == found[1].counts == found[2].counts
    x, y = found[0].point_coords[np.isfinite(found[0].point_coords[:, 0])].T.astype(int)
    assert valid[y, x].all()


@pytest.mark.parametrize("passes", [(), ((0.7, 0.8),)])
def test_an_image_full_of_data_has_the_same_masks_to_the_byte(passes):
    """What knows of no-data, told that there is none, does what it did before."""
    plain = Sample("a", flat_colors(*SIZE, seed=4))
    told = Sample("a", plain.image)
    object.__setattr__(told, "valid", np.ones(SIZE, bool))  # `Sample` would make it None
    options = {"ground": 8, "crop_n_layers": 1, "max_area": 0.3}
    a, b = automatic(passes=passes, **options)(plain), automatic(passes=passes, **options)(told)
    assert len(a) > 10
    assert a.counts == b.counts
    for name in ("xyxy", "area", "predicted_iou", "stability_score", "point_coords"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_tiles_without_data_are_neither_embedded_nor_decoded():
    """Three tiles across; the data lies in the last one."""
    prompts = []

    class Recording(ColorSegmenter):
        def predict(self, embedding, *, points=None, **options):
            prompts.extend(points.tolist())
            return super().predict(embedding, points=points, **options)

    segmenter = Recording()
    image = flat_colors(64, 160, seed=5)
    valid = right_of(130, (64, 160))
    sample = Sample("a", image, valid=valid)
    find = automatic(segmenter, passes=((0.7, 0.8),))
    find.prefetch([sample])
    assert segmenter.embedded == 1
    assert len(find(sample)) > 0
    assert segmenter.embedded == 1
    assert min(x for x, _ in prompts) >= 130 - 96  # the tile begins at 96
    assert len({*map(tuple, prompts)}) == 4 * 8  # half of its columns of points

    nothing = Sample("b", image, valid=np.zeros((64, 160), bool))
    find.prefetch([nothing])
    assert len(find(nothing)) == 0
    assert segmenter.embedded == 1


def test_superpixels_leave_no_data_uncovered():
    sample = Sample("a", flat_colors(*SIZE, seed=6), valid=right_of(30))
    covered = add_superpixels(bars((60, 80)), sample, 8).to_array().any(0)
    assert not covered[:, :30].any()
    assert covered[:, 30:].mean() > 0.98


def boxed(valid, *xyxy, size=SIZE):
    rows = [Annotation(str(i), "ship", box) for i, box in enumerate(xyxy)]
    boxes, problems = check_boxes(rows, {"ship": 0}, size)
    assert not problems
    return Sample("a", np.zeros((*size, 3), np.uint8), boxes, valid=valid)


def test_boxes_on_no_data_have_no_mask():
    """One on data, one that is cut, one that is mostly no data, one that is not even asked."""
    asked = []

    class Recording(BoxSegmenter):
        def predict(self, embedding, *, boxes=None, **options):
            asked.extend(boxes.tolist())
            return super().predict(embedding, boxes=boxes, **options)

    sample = boxed(right_of(40), (60, 8, 80, 24), (36, 8, 52, 24), (20, 8, 44, 24), (0, 0, 40, 60))
    masks = BoxMasks(segmenter=Recording())(sample)
    assert masks.boxes.object_id.tolist() == [0, 1]
    assert masks.xyxy[:, 0].tolist() == [60, 40]
    assert not (masks.to_array() & ~sample.valid).any()
    assert len(asked) == 3


def test_tiles_without_data_are_not_asked_for_boxes():
    """The box reaches over three tiles, of which one holds data; then none does."""
    size = (64, 160)
    find = BoxMasks(segmenter=BoxSegmenter(), **TILES)
    sample = boxed(right_of(112, size), (4, 8, 156, 24), size=size)
    assert [tile.x0 for tile, _ in find._prompted_tiles(sample)] == [96]
    assert len(find(sample)) == 1
    sample = boxed(np.zeros(size, bool), (4, 8, 156, 24), size=size)
    assert [*find._prompted_tiles(sample)] == []
    masks = find(sample)
    assert len(masks) == len(masks.boxes) == 0


def test_a_mask_keeps_the_box_that_it_was_asked_with():
    boxes, _ = check_boxes(
        [Annotation("0", "ship", (30, 10, 50, 20)), Annotation("1", "ship", (50, 10, 70, 20))],
        {"ship": 0},
        SIZE,
    )
    masks = Masks.from_counts(bars((30, 50), (50, 70)).counts, SIZE, boxes=boxes)
    kept = keep_data(masks, right_of(45))
    assert kept.boxes.object_id.tolist() == [1]
    assert rle.decode(kept.counts[0], SIZE)[10:20, 50:70].all()
