"""The stream of draws is a function of the seed alone."""

import pickle
import tracemalloc
from collections import Counter
from itertools import chain

import pytest

from alps.datasets.sampler import Draw, ShardSampler, StreamSampler


def stream(n: int = 10, **options: int) -> list[list[Draw]]:
    return list(StreamSampler(n, **{"batch_size": 4, "total_batches": 12, "seed": 0, **options}))


def flat(batches: list[list[Draw]]) -> list[Draw]:
    return [*chain.from_iterable(batches)]


def test_every_epoch_holds_every_image_once_in_its_own_order() -> None:
    indices = [draw.index for draw in flat(stream(10, total_batches=10))]
    epochs = [tuple(indices[i : i + 10]) for i in range(0, 40, 10)]
    assert all(sorted(epoch) == [*range(10)] for epoch in epochs)
    assert len(set(epochs)) == 4


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    batches = stream(3, batch_size=8, total_batches=3)
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert Counter(draw.index for draw in flat(batches)) == {0: 8, 1: 8, 2: 8}
    assert len(set(flat(batches))) == 24


def test_the_stream_depends_on_the_seed_and_each_draw_has_a_seed() -> None:
    assert stream() == stream()
    assert [d.index for d in flat(stream())] != [d.index for d in flat(stream(seed=1))]
    seeds = {draw.seed for seed in range(3) for draw in flat(stream(seed=seed))}
    assert len(seeds) == 3 * 48
    assert all(0 <= seed < 2**64 for seed in seeds)


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_ranks_draw_the_same_images_as_one_with_a_larger_batch(world_size: int) -> None:
    whole = stream(batch_size=4 * world_size)
    ranks = [stream(rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        assert [*chain.from_iterable(zip(*parts, strict=True))] == step


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
def test_a_stream_resumes_at_a_step(start: int) -> None:
    for rank in range(2):
        options = {"rank": rank, "world_size": 2}
        assert stream(start=start, **options) == stream(**options)[start:]
    assert len(StreamSampler(10, batch_size=4, total_batches=12, seed=0, start=start)) == 12


def test_a_sampler_can_be_iterated_again_and_pickled() -> None:
    sampler = StreamSampler(10, batch_size=4, total_batches=12, seed=0)
    assert list(sampler) == list(sampler) == list(pickle.loads(pickle.dumps(sampler)))
    draw = Draw(3, 2**64 - 1)
    assert pickle.loads(pickle.dumps(draw)) == draw


def test_memory_holds_a_single_permutation() -> None:
    tracemalloc.start()
    for _ in StreamSampler(100_000, batch_size=10, total_batches=20_005, seed=0, start=19_995):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 3 * 8 * 100_000


def test_a_stream_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image, got n = 0"):
        stream(0)


@pytest.mark.parametrize("n", [0, 1, 5, 6])
def test_shards_hold_every_image_once(n: int) -> None:
    shards = [ShardSampler(n, rank, 3) for rank in range(3)]
    assert sorted(chain.from_iterable(shards)) == [*range(n)]
    assert [len(shard) for shard in shards] == [len([*shard]) for shard in shards]
    assert [*ShardSampler(n)] == [*range(n)]
