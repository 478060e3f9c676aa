"""Several datasets in one stream: every batch holds some of each, whoever reads it."""

from itertools import chain

import numpy as np
import pytest
import torch

from alps.datasets.joint import JointDataset, JointDraw, JointSampler, images_per_dataset
from alps.datasets.sampler import Draw
from alps.datasets.segmentation import SegmentationDataset
from alps.errors import ConfigError
from tests.datasets.labelled_arrays import random_pairs

SIZES = (20, 7, 3)


def stream(**options: int) -> list[list[JointDraw]]:
    defaults = {"batch_size": 6, "total_batches": 9, "seed": 0}
    return [*JointSampler(SIZES, **{**defaults, **options})]


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ((17480, 11725, 64147), 96, [18, 12, 66]),  # SAMRS: SOTA, SIOR, FAST
        ((10, 10), 5, [3, 2]),
        ((1, 1000, 1), 4, [1, 2, 1]),
        ((1, 1, 1000, 300), 5, [1, 1, 2, 1]),
        ((3,), 4, [4]),
        ((5, 5, 5), 3, [1, 1, 1]),
    ],
)
def test_a_batch_is_split_in_proportion_to_the_datasets(sizes, batch_size, expected):
    assert images_per_dataset(sizes, batch_size) == expected


def test_numbers_of_images_sum_to_the_batch_size_and_are_proportional():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(1, 1000, rng.integers(1, 7)).tolist()
        batch_size = len(sizes) + int(rng.integers(0, 60))
        counts = images_per_dataset(sizes, batch_size)
        assert sum(counts) == batch_size
        assert min(counts) >= 1
        exact = np.array(sizes) * batch_size / sum(sizes)
        if exact.min() >= 1:
            assert (np.abs(counts - exact) < 1).all()


def test_too_small_a_batch_is_refused():
    with pytest.raises(ConfigError, match=r"batch of 2 .* 3 datasets; increase data.batch_size"):
        images_per_dataset((5, 5, 5), 2)


def test_every_batch_has_the_same_number_of_images_per_dataset():
    for batch in stream():
        counts = np.bincount([joint.dataset for joint in batch])
        assert counts.tolist() == images_per_dataset(SIZES, 6)
        assert [joint.dataset for joint in batch] == sorted(joint.dataset for joint in batch)


def test_each_dataset_is_drawn_completely_before_an_image_repeats():
    draws = [*chain.from_iterable(stream(total_batches=30))]
    for dataset, n in enumerate(SIZES):
        indices = [joint.draw.index for joint in draws if joint.dataset == dataset]
        assert sorted(indices[:n]) == [*range(n)]


def test_datasets_have_independent_streams():
    (batch,) = JointSampler((50, 50), batch_size=20, total_batches=1, seed=0)
    first, second = ([j.draw for j in batch if j.dataset == i] for i in (0, 1))
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert not {draw.seed for draw in first} & {draw.seed for draw in second}


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_ranks_draw_the_same_images_as_one_with_a_larger_batch(world_size):
    whole = stream(batch_size=2 * world_size)
    ranks = [stream(batch_size=2, rank=r, world_size=world_size) for r in range(world_size)]
    for step, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        assert [*chain.from_iterable(zip(*parts, strict=True))] == step
        assert all(len(part) == 2 for part in parts)


@pytest.mark.parametrize("start", [0, 4, 9])
def test_a_stream_resumes_at_a_step(start):
    assert stream(start=start) == stream()[start:]
    assert stream() == stream()
    assert stream(seed=1) != stream()


def test_a_batch_counts_the_images_of_each_dataset():
    datasets = []
    for n, num_classes in ((3, 4), (2, 5), (2, 6)):
        images = random_pairs(n, num_classes=num_classes)
        datasets.append(SegmentationDataset(images, images.records()))
    joint = JointDataset(datasets)
    draws = [JointDraw(0, Draw(2, 5)), JointDraw(2, Draw(1, 5)), JointDraw(2, Draw(0, 6))]
    batch = joint.collate([joint[draw] for draw in draws])
    assert batch.counts == (1, 0, 2)
    assert batch.image_ids == ["image_2", "image_1", "image_0"]
    assert torch.equal(batch.image[1], datasets[2][1].image)
