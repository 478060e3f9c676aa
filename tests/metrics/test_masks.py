"""Masks against ground truth: COCO's recall, brute force, and what perfect masks must score."""

import itertools
import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alps.metrics.clustering import scores
from alps.metrics.masks import (
    Tally,
    count_boundary_matches,
    count_boundary_overlap,
    count_overlaps,
    count_recalled,
    find_regions,
    oracle,
    region_masks,
    tally,
)
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import paint
from tests.factories import draw_labels

K, IGNORE, SIZE = 4, 255, (64, 96)


def index_map(seed: int = 0) -> np.ndarray:
    target = draw_labels(SIZE, seed, K)[1]
    target[-3:] = IGNORE
    return target


def shaken(regions: Masks, seed: int = 0) -> Masks:
    """Two copies of each region, shifted by up to 3 pixels, with random scores."""
    rng = np.random.default_rng(seed)
    dense = [
        np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
        for mask in regions.to_array()
        for _ in range(2)
    ]
    return Masks.from_counts(
        rle.encode(np.stack(dense)), SIZE, predicted_iou=rng.random(len(dense)).astype(np.float32)
    )


def measure(masks: Masks, target: np.ndarray, min_area: int = 0) -> Tally:
    return tally(masks, target, K, IGNORE, min_area=min_area)


def perfect(target: np.ndarray) -> Masks:
    return region_masks(find_regions(target, IGNORE), 0)


def test_regions_are_the_connected_parts_of_each_class() -> None:
    target = np.array([[0, 0, 1, 9], [0, 1, 0, 9], [2, 2, 0, 1]], np.uint8)
    parts = find_regions(target, 9)
    assert parts.tolist() == [[0, 0, 1, -1], [0, 1, 0, -1], [3, 3, 0, 2]]
    masks = region_masks(parts, min_area=2)
    assert masks.area.tolist() == [5, 2, 2]
    assert (masks.to_array() == np.stack([parts == i for i in (0, 1, 3)])).all()


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_average_recall_equals_that_of_coco(limit: int) -> None:
    images, truth, found, recalled, regions = [], [], [], 0, 0
    for seed in range(4):
        true = region_masks(find_regions(index_map(seed), IGNORE), 20)
        masks = shaken(true, seed)
        images.append({"id": seed, "height": SIZE[0], "width": SIZE[1]})
        for each, rows in ((true, truth), (masks, found)):
            for counts, area, score in zip(each.counts, each.area, each.predicted_iou, strict=True):
                segmentation = {"size": list(SIZE), "counts": counts}
                rows.append(
                    {"id": len(rows) + 1, "image_id": seed, "category_id": 1, "iscrowd": 0}
                    | {"segmentation": segmentation, "area": int(area), "score": float(score)}
                )
        recalled = recalled + count_recalled(masks, true, limit)
        regions += len(true)

    peers = [COCO(), COCO()]
    for peer, rows in zip(peers, (truth, found), strict=True):
        peer.dataset = {"images": images, "annotations": rows, "categories": [{"id": 1}]}
        peer.createIndex()
    evaluation = COCOeval(*peers, "segm")
    evaluation.params.maxDets = [limit]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    theirs = evaluation.eval["recall"].ravel()
    assert 0 <= theirs[-1] < theirs[0] <= 1
    assert recalled / regions == pytest.approx(theirs)


def test_masks_without_scores_are_used_in_their_order() -> None:
    true = perfect(index_map())
    first = true[np.arange(3)]
    assert count_recalled(true, true, 3).tolist() == count_recalled(first, true, 100).tolist()


def test_the_oracle_is_the_majority_inside_each_mask() -> None:
    target = index_map()
    masks = shaken(perfect(target))
    for found, mask in zip(oracle(masks, target, K, IGNORE), masks.to_array(), strict=True):
        inside = target[mask]
        assert (inside == found).sum() == max((inside == c).sum() for c in range(K))

    margin = np.zeros((1, *SIZE), bool)
    margin[0, -2:] = True
    assert oracle(Masks.from_array(margin), target, K, IGNORE).tolist() == [-1]


def test_no_classes_are_better_than_the_oracle() -> None:
    target = index_map()
    quarters = np.zeros((4, *SIZE), bool)
    for i, (rows, columns) in enumerate(itertools.product(*[(slice(20), slice(30, None))] * 2)):
        quarters[i, rows, columns] = True
    masks = Masks.from_array(quarters)
    known = target != IGNORE
    hits = [
        int((paint(masks, np.array(ids), 255)[known] == target[known]).sum())
        for ids in itertools.product(range(K), repeat=4)
    ]
    table = measure(masks, target).oracle
    assert table.counts.trace() == max(hits) > min(hits)
    assert pytest.approx(max(hits) / known.sum()) == scores(table, np.arange(K)).OA


def test_overlaps_equal_those_computed_by_hand() -> None:
    segments = np.array([[0, 0, 0, 0], [1, 1, 1, 255], [2, 2, 2, 255]], np.uint8)
    regions = np.array([[0, 0, 0, 1], [1, 1, 1, 1], [1, -1, -1, 1]], np.int32)
    # Achieved 3 + 3 + 1 of ten; leaked 1 into each region from segment 0, and 2 bare pixels.
    assert count_overlaps(segments, regions, 255) == (7, 4)


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_are_those_of_brute_force(seed: int) -> None:
    target = index_map(seed)
    masks = shaken(perfect(target), seed)[np.arange(0, 20, 2)]
    segments, regions = paint(masks, np.arange(10), 255), find_regions(target, IGNORE)
    achieved, leaked = 0, int(((segments == 255) & (regions >= 0)).sum())
    for s in range(10):
        inside = regions[(segments == s) & (regions >= 0)]
        shares = [int((inside == r).sum()) for r in range(regions.max() + 1)]
        achieved += max(shares)
        leaked += sum(min(share, len(inside) - share) for share in shares)
    assert count_overlaps(segments, regions, 255) == (achieved, leaked)


def test_boundary_overlap_is_that_of_brute_force() -> None:
    target, prediction = index_map(), np.roll(index_map(), 1, 1)
    width = round(0.02 * math.hypot(*SIZE))
    found = count_boundary_overlap(prediction, target, K, IGNORE)
    for c in range(K):
        margins = []
        for index in (prediction, target):
            inside = (index == c) & (target != IGNORE)
            padded = np.pad(inside, width)
            window = (2 * width + 1, 2 * width + 1)
            core = np.lib.stride_tricks.sliding_window_view(padded, window).all((-2, -1))
            margins.append(inside & ~core)
        assert found[:, c].tolist() == [
            np.sum(f(*margins)) for f in (np.bitwise_and, np.bitwise_or)
        ]
        assert 0 < found[0, c] < found[1, c]


def test_boundary_matches_are_those_of_brute_force() -> None:
    target, prediction = index_map(), np.roll(index_map(), 1, 1)
    reach = 0.0075 * math.hypot(*SIZE)

    def outline(index: np.ndarray) -> np.ndarray:
        known = target != IGNORE
        return np.array(
            [
                (y, x)
                for y, x in itertools.product(*map(range, SIZE))
                for below, right in [((y + 1, x), (y, x + 1))]
                if any(
                    known[y, x] and known[near] and index[y, x] != index[near]
                    for near in (below, right)
                    if near[0] < SIZE[0] and near[1] < SIZE[1]
                )
            ]
        )

    said, true = outline(prediction), outline(target)
    near = np.hypot(*(said[:, None] - true[None]).transpose(2, 0, 1)) <= reach
    expected = [[near.any(1).sum(), len(said)], [near.any(0).sum(), len(true)]]
    assert count_boundary_matches(prediction, target, IGNORE).tolist() == expected
    assert expected[0][0] < len(said)


def test_regions_as_masks_are_perfect() -> None:
    target = index_map()
    found = measure(perfect(target), target)
    assert found.ar_100 == found.ar_1000 == 1
    assert (found.achievable_accuracy, found.undersegmentation_error) == (1, 0)
    assert (found.boundary_iou, found.boundary_f1) == (1, 1)
    assert found.coverage == pytest.approx(61 / 64)  # all but the ignored rows
    assert scores(found.oracle, np.arange(K)).mIoU == 1


def test_worse_masks_score_worse() -> None:
    target = index_map()
    regions = perfect(target)
    good, fair, poor = (
        measure(masks, target)
        for masks in (regions, shaken(regions), shaken(regions)[np.arange(0, len(regions), 4)])
    )
    for name in ("ar_100", "achievable_accuracy", "boundary_iou", "boundary_f1"):
        assert getattr(good, name) > getattr(fair, name) > getattr(poor, name) > 0, name
    assert 0 < fair.undersegmentation_error < poor.undersegmentation_error < 1


def test_an_image_without_masks() -> None:
    target = index_map()
    found = measure(Masks.empty(SIZE), target)
    assert (found.masks_per_image, found.coverage, found.ar_1000) == (0, 0, 0)
    assert (found.achievable_accuracy, found.undersegmentation_error) == (0, 1)
    assert (found.boundary_iou, found.boundary_f1) == (0, 0)
    assert scores(found.oracle, np.arange(K)).OA == 0


def test_an_image_without_classes() -> None:
    found = measure(perfect(index_map()), np.full(SIZE, IGNORE, np.uint8))
    assert found.coverage > 0.9
    for name in ("ar_100", "achievable_accuracy", "undersegmentation_error"):
        assert math.isnan(getattr(found, name)), name
    assert math.isnan(found.boundary_iou)
    assert math.isnan(found.boundary_f1)


def test_an_ignored_class_among_the_classes_is_not_counted() -> None:
    target = index_map() % IGNORE
    moved = np.where(target == 2, IGNORE, target)
    masks = shaken(perfect(target))
    for ours, theirs in zip(
        *(values(tally(masks, t, K, i, min_area=9)) for t, i in ((target, 2), (moved, IGNORE))),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_tallies_can_be_added() -> None:
    targets = [index_map(seed)[: 40 + seed] for seed in range(3)]
    parts = [measure(perfect(target), target, 9) for target in targets]
    whole = reduce(add, parts)
    assert whole.images == 3
    assert whole.masks_per_image == pytest.approx(np.mean([p.masks for p in parts]))
    assert whole.pixels == sum(t.size for t in targets)
    assert (whole.oracle.counts == sum(p.oracle.counts for p in parts)).all()
    assert whole.ar_100 == 1


def values(found: Tally) -> list:
    rest = [getattr(found, name) for name in found.__slots__ if name != "oracle"]
    return [*rest, found.oracle.counts, found.oracle.unlabelled]
