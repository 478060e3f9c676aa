"""Parity with pycocotools, which wants all masks at once."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alps.metrics.instances import average_precision, match
from alps.structures import rle

SIZE = (40, 50)


def draw(rng, n):
    masks = np.zeros((n, *SIZE), bool)
    for mask in masks:
        y, x = rng.integers(0, 25, 2)
        mask[y : y + rng.integers(5, 15), x : x + rng.integers(5, 15)] = True
    return masks


def moved(rng, masks):
    """Near the true ones, some far, some empty; equal scores among them."""
    found = np.stack([np.roll(m, rng.integers(-3, 4, 2), (0, 1)) for m in masks])
    found[rng.random(len(masks)) < 0.1] = False
    return found, rng.integers(0, 8, len(masks)).astype(np.float32) / 8


def rows(masks, image, category, start, scores=None):
    return [
        {
            "id": start + i + 1,
            "image_id": image,
            "category_id": category,
            "segmentation": {"size": list(SIZE), "counts": counts},
            "area": 100,
            "bbox": [0, 0, 1, 1],
            "iscrowd": 0,
            "score": 0 if scores is None else float(scores[i]),
        }
        for i, counts in enumerate(rle.encode(masks))
    ]


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    truth, found = [], []
    ours = {c: ([], []) for c in range(3)}
    for image in range(6):
        for c in range(2):  # the third has no object
            masks = draw(rng, int(rng.integers(1, 12)))
            near, scores = moved(rng, masks)
            truth += rows(masks, image, c, len(truth))
            found += rows(near, image, c, len(found), scores)
            iou = rle.iou(rle.encode(near), rle.encode(masks), SIZE)
            ours[c][0].append(scores)
            ours[c][1].append(match(iou, scores))
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for side in (truth, found):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": i, "height": 40, "width": 50} for i in range(6)],
                "annotations": side,
                "categories": [{"id": c} for c in range(3)],
            }
            coco.createIndex()
            sides.append(coco)
        peer = COCOeval(*sides, iouType="segm")
        peer.params.maxDets = [1, 10, 1000]
        peer.evaluate()
        peer.accumulate()
    expected = peer.eval["precision"][:, :, :, 0, -1].mean(axis=1)
    for c in range(2):
        scores, matched = map(np.concatenate, ours[c])
        precision = average_precision(scores, matched, len(scores))
        np.testing.assert_allclose(precision, expected[:, c], atol=1e-12)
        assert 0 < precision[0] < 1
    assert (expected[:, 2] == -1).all()
    assert np.isnan(average_precision(np.zeros(0), np.zeros((0, 10), bool), 0)).all()


def test_a_true_mask_is_matched_once():
    iou = np.array([[0.8, 0.6], [0.9, 0.0]])
    first, second = match(iou, np.array([0.5, 0.9]))  # the second chooses first
    assert second.tolist() == [True] * 9 + [False]
    assert first.tolist() == [True] * 3 + [False] * 6 + [False]
    assert match(np.zeros((1, 0)), np.ones(1)).tolist() == [[False] * 10]
