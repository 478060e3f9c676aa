"""Clusters against classes: scikit-learn's numbers, and what must not change them."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from sklearn import metrics as sk

from alps.metrics.clustering import (
    Contingency,
    agreement,
    contingency,
    hungarian,
    majority,
    scores,
)

G, UNLABELLED, IGNORE = 6, 255, 254


def draw(seed: int = 0, k: int = 9, share: float = 0.7, n: int = 4000) -> tuple:
    """(labels, target): clusters that follow the classes on ``share`` of the pixels; some bare."""
    rng = np.random.default_rng(seed)
    target = rng.choice(G, n, p=[0.4, 0.2, 0.2, 0.1, 0.06, 0.04])
    of_class = np.resize(rng.permutation(k), (2, G))  # up to two clusters a class
    labels = of_class[rng.integers(2, size=n), target]
    labels = np.where(rng.random(n) < share, labels, rng.integers(k, size=n))
    labels[rng.random(n) < 0.1] = UNLABELLED
    target[rng.random(n) < 0.1] = IGNORE
    return labels, target


def table_of(labels: np.ndarray, target: np.ndarray, k: int = 9) -> Contingency:
    return contingency(labels, target, k, G, unlabelled=UNLABELLED, ignore_index=IGNORE)


def labelled(labels: np.ndarray, target: np.ndarray) -> tuple:
    both = (labels != UNLABELLED) & (target != IGNORE)
    return target[both], labels[both]


def test_the_contingency_table_equals_one_computed_by_hand() -> None:
    labels = np.array([[0, 0, 1], [1, 255, 255]], np.uint8)
    target = np.array([[2, 2, 0], [9, 0, 9]], np.uint8)
    table = contingency(labels, target, 3, 3, unlabelled=255, ignore_index=9)
    assert table.counts.tolist() == [[0, 0, 2], [1, 0, 0], [0, 0, 0]]
    assert table.unlabelled.tolist() == [1, 0, 0]
    assert table.covered().unlabelled.tolist() == [0, 0, 0]


@pytest.mark.parametrize("k", [3, 9, 46])
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_agreement_equals_that_of_scikit_learn(k: int, share: float) -> None:
    labels, target = draw(1, k, share)
    table = table_of(labels, target, k)
    true, found = labelled(labels, target)
    counts = sk.cluster.contingency_matrix(true, found)
    assert (table.counts[table.counts.any(axis=1)] == counts.T).all()

    ours = agreement(table)
    assert ours.nmi == pytest.approx(sk.normalized_mutual_info_score(true, found), abs=1e-12)
    assert ours.nmi == pytest.approx(sk.v_measure_score(true, found), abs=1e-12)
    assert ours.ari == pytest.approx(sk.adjusted_rand_score(true, found), abs=1e-12)
    assert ours.homogeneity == pytest.approx(sk.homogeneity_score(true, found), abs=1e-12)
    assert ours.completeness == pytest.approx(sk.completeness_score(true, found), abs=1e-12)
    assert ours.purity == pytest.approx(counts.max(axis=0).sum() / counts.sum())


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        ([0, 0, 0], [1, 1, 1]),
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 2], [1, 1, 1]),
        ([0, 1, 2], [2, 0, 1]),
        ([0], [0]),
    ],
)
def test_agreement_of_degenerate_partitions_equals_that_of_scikit_learn(
    labels: list[int], target: list[int]
) -> None:
    ours = agreement(table_of(np.array(labels), np.array(target)))
    assert ours.nmi == pytest.approx(sk.v_measure_score(target, labels))
    assert ours.ari == pytest.approx(sk.adjusted_rand_score(target, labels))
    assert ours.homogeneity == pytest.approx(sk.homogeneity_score(target, labels))
    assert ours.completeness == pytest.approx(sk.completeness_score(target, labels))


def test_agreement_on_a_whole_dataset_does_not_overflow() -> None:
    labels, target = draw()
    table = table_of(labels, target)
    large = agreement(Contingency(table.counts * 500_000, table.unlabelled))
    assert large.ari == pytest.approx(agreement(table).ari, abs=1e-3)


def test_random_clusters_have_no_agreement() -> None:
    rng = np.random.default_rng(0)
    table = table_of(rng.integers(9, size=50_000), draw(n=50_000)[1])
    assert abs(agreement(table).ari) < 1e-3
    assert agreement(table).nmi < 1e-3
    assert pytest.approx(0.4, abs=0.01) == scores(table, majority(table)).OA  # the largest class


def test_scores_do_not_depend_on_the_order_of_clusters() -> None:
    table = table_of(*draw())
    renamed = Contingency(table.counts[np.random.default_rng(0).permutation(9)], table.unlabelled)
    assert astuple(agreement(renamed)) == pytest.approx(astuple(agreement(table)))
    for find in (majority, hungarian):
        assert scores(renamed, find(renamed)) == scores(table, find(table))


def test_tables_of_images_can_be_added() -> None:
    labels, target = draw()
    parts = sum(
        (table_of(*part) for part in zip(np.split(labels, 4), np.split(target, 4), strict=True)),
        start=table_of(labels[:0], target[:0]),
    )
    whole = table_of(labels, target)
    assert (parts.counts == whole.counts).all()
    assert (parts.unlabelled == whole.unlabelled).all()
    assert whole.counts.sum() + whole.unlabelled.sum() == (target != IGNORE).sum()


@pytest.mark.parametrize("find", [majority, hungarian])
@pytest.mark.parametrize("k", [4, 9])
def test_scores_are_those_of_the_mapped_index_map(find, k: int) -> None:
    learnt = find(table_of(*draw(1, k), k))
    labels, target = draw(2, k)
    prediction = np.where(labels == UNLABELLED, -1, learnt[labels % k])
    known = target != IGNORE
    true, found = target[known], prediction[known]
    ours = scores(table_of(labels, target, k), learnt)
    classes = list(range(G))
    options = {"labels": classes, "average": None, "zero_division": 0}
    assert pytest.approx(sk.accuracy_score(true, found)) == ours.OA
    assert ours.iou == pytest.approx(sk.jaccard_score(true, found, **options))
    assert ours.f1 == pytest.approx(sk.f1_score(true, found, **options))
    assert ours.accuracy == pytest.approx(sk.recall_score(true, found, **options))
    assert ours.mIoU == pytest.approx(np.mean(ours.iou))

    over_covered = scores(table_of(labels, target, k).covered(), learnt)
    known &= labels != UNLABELLED
    true, found = target[known], prediction[known]
    assert pytest.approx(sk.accuracy_score(true, found)) == over_covered.OA
    assert over_covered.OA > ours.OA


def test_an_unseen_cluster_becomes_the_most_frequent_class() -> None:
    counts = np.array([[0, 5, 1], [0, 0, 0], [3, 0, 0]])
    assert majority(Contingency(counts, np.zeros(3, np.int64))).tolist() == [1, 1, 0]


def test_hungarian_maps_at_most_one_cluster_to_a_class() -> None:
    counts = np.array([[5, 4], [6, 1], [1, 1]])
    table = Contingency(counts, np.array([2, 0]))
    assert majority(table).tolist() == [0, 0, 0]
    mapping = hungarian(table)
    assert mapping.tolist() == [1, 0, -1]
    assert pytest.approx(10 / 20) == scores(table, mapping).OA  # what has no class is wrong
    assert pytest.approx(10 / 18) == scores(table.covered(), mapping).OA


def test_many_clusters_have_no_advantage_on_other_images() -> None:
    rng = np.random.default_rng(0)
    train, val = (
        table_of(rng.integers(1000, 1800, 4000) - 1000, draw(seed)[1], 800) for seed in (1, 2)
    )
    flattered = scores(val, majority(val)).OA
    honest = scores(val, majority(train)).OA
    assert flattered > 0.5 > 0.42 > honest


def test_grouped_classes_score_like_merged_ground_truth() -> None:
    labels, target = draw()
    groups = (0, 1, 2, 2, 0, 1)
    merged = np.append(groups, [IGNORE])[np.where(target == IGNORE, G, target)]
    expected = contingency(labels, merged, 9, 3, unlabelled=UNLABELLED, ignore_index=IGNORE)
    grouped = table_of(labels, target).group(groups)
    assert (grouped.counts == expected.counts).all()
    assert (grouped.unlabelled == expected.unlabelled).all()
    assert scores(grouped, majority(grouped)).OA > 0.5


def test_scores_without_pixels_are_nan() -> None:
    nothing = table_of(*(np.full(4, value) for value in (UNLABELLED, IGNORE)))
    assert all(math.isnan(value) for value in astuple(agreement(nothing)))
    found = scores(nothing, majority(nothing))
    assert all(math.isnan(value) for value in (*found.iou, found.mIoU, found.mF1, found.OA))
    bare = table_of(np.full(4, UNLABELLED), np.full(4, 1))
    assert scores(bare, majority(bare)).OA == 0


def test_invalid_clusters_and_classes_are_refused() -> None:
    labels, target = draw()
    with pytest.raises(ValueError, match="labels contain clusters from 0 to 8, expected 0 to 6"):
        table_of(labels, target, 7)
    with pytest.raises(ValueError, match="target contains classes from 0 to 255, expected 0 to 5"):
        table_of(labels, np.where(target == IGNORE, 255, target))


def test_an_image_without_clusters_is_unlabelled():
    target = np.array([[0, 1], [1, 9]])
    table = contingency(np.full((2, 2), 255), target, 0, 2, unlabelled=255, ignore_index=9)
    assert table.counts.shape == (0, 2)
    assert table.unlabelled.tolist() == [1, 2]
