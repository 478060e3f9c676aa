import numpy as np
import pytest
import torch

from alps.errors import ConfigError, ImageError
from alps.masks.box import BoxMasks, choose_tiles, is_rotated, rotated_iou
from alps.sam.protocol import Prediction
from alps.structures import rle
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.records import Sample
from alps.structures.tiles import cut_tiles
from tests.fakes import Ellipses


def sample(*xyxy, size=(200, 300), **more):
    rows = [Annotation(f"line {i}", "ship", box, **more) for i, box in enumerate(xyxy)]
    boxes, problems = check_boxes(rows, {"ship": 0}, size)
    assert not problems
    return Sample("x", np.zeros((*size, 3), np.uint8), boxes)


def ellipse(box, size):
    x0, y0, x1, y1 = box
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    far = ((x - (x0 + x1) / 2) / (x1 - x0) * 2) ** 2 + ((y - (y0 + y1) / 2) / (y1 - y0) * 2) ** 2
    return far < 1


def iou(counts, mask):
    own = rle.decode(counts, mask.shape)
    return (own & mask).sum() / (own | mask).sum()


def test_a_mask_per_box_in_their_order():
    boxes = [(10, 20, 60, 50), (200, 100, 280, 190), (10, 120, 40, 180)]
    found = BoxMasks(segmenter=Ellipses())(sample(*boxes))
    assert len(found) == 3
    for counts, box in zip(found.counts, boxes, strict=True):
        assert iou(counts, ellipse(box, (200, 300))) > 0.97
    np.testing.assert_allclose(found.predicted_iou, [0.9, 0.89, 0.88], atol=1e-6)
    assert found.boxes is not None
    np.testing.assert_array_equal(found.boxes.xyxy, boxes)
    assert np.isnan(found.point_coords).all()


def test_no_box_no_mask_and_no_boxes_is_said():
    segmenter = Ellipses()
    none = Sample("x", np.zeros((20, 30, 3), np.uint8), Boxes.empty())
    assert len(BoxMasks(segmenter=segmenter)(none)) == 0
    assert segmenter.asked == []
    with pytest.raises(
        ImageError, match=r"x has no boxes, which masks=box needs as prompts; choose"
    ):
        BoxMasks(segmenter=segmenter)(Sample("x", none.image))


def test_a_large_image_is_asked_tile_by_tile():
    """A box that one tile holds is asked there, one that none holds is united."""
    boxes = [(10, 10, 40, 40), (60, 60, 90, 90), (20, 50, 270, 80), (250, 150, 290, 190)]
    segmenter = Ellipses()
    found = BoxMasks(segmenter=segmenter, tile_size=128, tile_overlap=48)(sample(*boxes))
    for i in (0, 1, 3):
        assert iou(found.counts[i], ellipse(boxes[i], (200, 300))) > 0.97
    assert all(size == (128, 128) for size, *_ in segmenter.asked)
    # The fake draws an ellipse into each piece of the long box; together they reach both ends.
    x0, y0, x1, y1 = found.xyxy[2]
    assert (abs(np.array([x0, y0, x1, y1]) - boxes[2]) <= 3).all()
    asked = sum(len(prompts) for _, prompts, _, _ in segmenter.asked)
    assert asked == 3 + 8  # four tiles across, two down


def test_choose_tiles():
    tiles = cut_tiles((100, 300), 128, 40)
    assert [(t.x0, t.x1) for t in tiles] == [(0, 128), (86, 214), (172, 300)]
    boxes = np.array(
        [
            (95, 0, 125, 10),  # in two, nearer to the middle of the second
            (0, 0, 20, 10),
            (60, 0, 260, 10),  # in none: 68, 128 and 88 of 200 px
            (120, 0, 260, 10),  # 8 of 140 px in the first are too few
        ],
        np.float32,
    )
    chosen = choose_tiles(boxes, tiles, 0.1)
    assert chosen.tolist() == [
        [False, True, False],
        [True, False, False],
        [True, True, True],
        [False, True, True],
    ]


@pytest.mark.parametrize("prompt", ["hbox", "rhbox", "center", "hbox+center", "rbox_mask"])
def test_prompts(prompt):
    quad = (100, 40, 140, 80, 100, 120, 60, 80)
    rows = [Annotation("line 1", "ship", (80, 50, 120, 110), quad=quad)]
    boxes, _ = check_boxes(rows, {"ship": 0}, (200, 300))
    segmenter = Ellipses()
    find = BoxMasks(segmenter=segmenter, prompt=prompt)
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = find._prompts(cut_tiles((200, 300), 1024, 0)[0], boxes, segmenter.embed(image))
    kinds = {"hbox+center": {"boxes", "points"}, "center": {"points"}, "rbox_mask": {"masks"}}
    assert set(drawn) == kinds.get(prompt, {"boxes"})
    if "hbox" in prompt:
        expected = (60, 40, 140, 120) if prompt == "rhbox" else (80, 50, 120, 110)
        np.testing.assert_array_equal(drawn["boxes"], [expected])
    if "center" in prompt:
        np.testing.assert_array_equal(drawn["points"], [(100, 80)])
    if prompt == "rbox_mask":
        inside = drawn["masks"][0] > 0
        y, x = (np.mgrid[:256, :256] + 0.5) * 300 / 256
        true = np.abs(x - 100) + np.abs(y - 80) < 40
        assert (inside & true).sum() / (inside | true).sum() > 0.93
        assert set(np.unique(drawn["masks"])) == {-1000.0, 1000.0}


def test_settings_are_checked_and_named():
    with pytest.raises(ConfigError, match=r"^prompt=box: expected hbox, rhbox, center"):
        BoxMasks(segmenter=Ellipses(), prompt="box")
    with pytest.raises(ConfigError, match=r"^min_part=0.5: expected a fraction .* > 0 and <= 0.25"):
        BoxMasks(segmenter=Ellipses(), min_part=0.5)
    identity = BoxMasks(segmenter=Ellipses(), prompt="center").identity
    assert identity["prompt"] == "center"
    assert identity["sam.architecture"] == "ellipses"


def test_the_best_of_four_masks_agrees_with_the_box():
    """SAM's first is a mask of half the box; the third fits, and is predicted to be a bit worse."""

    class Four(Ellipses):
        def predict(self, embedding, *, boxes=None, multimask_output=True, **options):
            half = boxes.copy()
            half[:, 2] = (boxes[:, 0] + boxes[:, 2]) / 2
            sides = [half, half, boxes, half] if multimask_output is None else [half]
            n = len(sides)
            every = np.stack(sides, axis=1).reshape(-1, 4)
            found = super().predict(embedding, boxes=every, multimask_output=False)
            iou = torch.tensor([0.9, 0.5, 0.8, 0.9][:n]).repeat(len(boxes))
            return Prediction(found.logits, iou, found.prompt // n, found.prompt % n)

    box = (10, 20, 90, 60)
    first = BoxMasks(segmenter=Four(), best=False)(sample(box, (100, 100, 160, 140)))
    best = BoxMasks(segmenter=Four())(sample(box, (100, 100, 160, 140)))
    assert iou(first.counts[0], ellipse(box, (200, 300))) < 0.5
    assert iou(best.counts[0], ellipse(box, (200, 300))) > 0.97
    assert iou(best.counts[1], ellipse((100, 100, 160, 140), (200, 300))) > 0.97
    np.testing.assert_allclose(best.predicted_iou, 0.8)


def test_rotated_boxes_are_told_from_upright_ones():
    assert not is_rotated(np.array([(10, 20), (60, 20), (60, 50), (10, 50)], np.float32))
    assert is_rotated(np.array([(30, 10), (50, 30), (30, 50), (10, 30)], np.float32))


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 160])
def test_extents_along_a_rotated_box(angle):
    """Against corners of pixels, one by one."""
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    quad = ([(-30, -8), (30, -8), (30, 8), (-30, 8)] @ rotation + 60).astype(np.float32)
    y, x = np.mgrid[30:70, 40:90]
    centers = np.stack([x + 0.5, y + 0.5], axis=2)
    window = (np.abs((centers - 60) @ rotation.T) < (20, 6)).all(2)
    corners = np.concatenate([centers[window] + d for d in (0.5, -0.5, (0.5, -0.5), (-0.5, 0.5))])
    along = (corners - 60) @ rotation.T
    sides = np.minimum(along.max(0), (30, 8)) - np.maximum(along.min(0), (-30, -8))
    union = np.ptp(along, axis=0).prod() + 60 * 16 - sides.prod()
    found = rotated_iou(quad, window, (40, 30, 90, 70))
    np.testing.assert_allclose(found, sides.prod() / union, rtol=1e-4)
    assert rotated_iou(quad, np.zeros((0, 0), bool), (0, 0, 0, 0)) == 0


def test_of_a_rotated_box_the_mask_along_it_is_the_best():
    """Two masks have the same extent along the image; one lies across the object."""

    class Crossed(Ellipses):
        def predict(self, embedding, *, boxes=None, multimask_output=True, **options):
            at = (torch.arange(256) + 0.5) * 300 / 256
            x, y = at[None] - 120, at[:, None] - 100
            ends = (x.abs() < 50) & (y.abs() < 50)
            strips = [
                torch.where(((x - s * y).abs() < 12) & ends, 8.0, -8.0) for s in (-1, 1, -1, -1)
            ]
            iou = torch.tensor([0.9, 0.8, 0.9, 0.9])
            return Prediction(torch.stack(strips), iou, torch.zeros(4).long(), torch.arange(4))

    quad = (76, 68, 88, 56, 164, 132, 152, 144)  # from the upper left to the lower right
    found = BoxMasks(segmenter=Crossed())(sample((70, 50, 170, 150), quad=quad))
    np.testing.assert_allclose(found.predicted_iou, 0.8)
    flat = BoxMasks(segmenter=Crossed())(sample((70, 50, 170, 150)))
    np.testing.assert_allclose(flat.predicted_iou, 0.9)
