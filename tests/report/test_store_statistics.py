from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tiny_stores import make_store, some_scenes, write_labels

from alps.report.counts import statistics as module
from alps.report.counts.statistics import compute_statistics
from alps.structures.masks import Masks
from alps.structures.paint import count_covered


def test_statistics_equal_a_plain_count(tmp_path):
    scenes = some_scenes(8) | {"zz": (np.zeros((20, 30, 3), np.uint8), Masks.empty((20, 30)))}
    store, _ = make_store(tmp_path / "s", scenes, k=7, failed={"bad": "x"})
    statistics = compute_statistics(store)
    masks = [scenes[i][1] for i in sorted(scenes)]  # as the plan sorts them
    area = np.concatenate([m.area for m in masks])
    category, distance = (
        np.concatenate(x)
        for x in zip(*(store.shard(s).labels() for s in range(len(store.plan))), strict=True)
    )
    assert statistics.images == {"ok": 8, "empty": 1, "failed": 1}
    assert statistics.masks == len(area) == statistics.areas.sum()
    assert statistics.masks_per_image == Counter(len(m) for m in masks)
    assert statistics.covered == sum(count_covered(m) for m in masks)
    assert statistics.pixels == 9 * 20 * 30
    assert statistics.coverages.sum() == 9
    maps = np.concatenate(
        [np.asarray(Image.open(p)).ravel() for p in (store.root / "ann").rglob("*.png")]
    )
    for c in range(7):
        assert statistics.class_masks[c] == (category == c).sum()
        assert statistics.class_pixels[c] == (maps == c).sum()
        assert statistics.positions[c].sum() == pytest.approx((category == c).sum())
        np.testing.assert_allclose(statistics.class_distance[c], distance[category == c].mean())
    bounds = np.cumsum([len(m) for m in masks])[:-1]
    per_image = [len(np.unique(part)) for part in np.split(category, bounds)]
    assert statistics.classes_per_image == Counter(per_image)
    shares = [count_covered(m) / 600 for m in masks if len(m)]
    assert [s.coverage for s in statistics.lowest] == sorted(shares)
    assert [s.image_id for s in statistics.failed] == ["bad"]
    assert [s.image_id for s in statistics.empty] == ["zz"]
    assert (np.diff(statistics.class_masks[statistics.by_size]) <= 0).all()


def test_a_mask_is_spread_over_its_box(tmp_path, monkeypatch):
    """One box in the upper left quarter, one over all of an image that is not square."""
    monkeypatch.setattr(module, "GRID", 4)
    masks = np.zeros((2, 20, 40), bool)
    masks[0, :10, :20] = True
    masks[1] = True
    store, _ = make_store(
        tmp_path / "s", {"a": (np.zeros((20, 40, 3), np.uint8), Masks.from_array(masks))}
    )
    write_labels(store, 0, np.array([2, -1], np.int32))
    statistics = compute_statistics(store)
    corner = np.zeros((4, 4))
    corner[:2, :2] = 1 / 4
    np.testing.assert_allclose(statistics.positions[2], corner, atol=1e-12)
    np.testing.assert_allclose(statistics.positions[-1], np.full((4, 4), 1 / 16), atol=1e-12)
    assert statistics.classes_per_image == {1: 1}


def test_neither_order_nor_shards_of_images_change_the_statistics(tmp_path):
    scenes = some_scenes(7, masks=1)
    one, _ = make_store(tmp_path / "a", scenes, k=1)
    renamed = dict(zip(sorted(scenes), reversed([scenes[i] for i in sorted(scenes)]), strict=True))
    two, _ = make_store(tmp_path / "b", renamed, k=1)
    a, b = compute_statistics(one), compute_statistics(two)
    np.testing.assert_allclose(a.positions, b.positions)
    np.testing.assert_array_equal(a.class_pixels, b.class_pixels)
    assert a.masks_per_image == b.masks_per_image


def test_the_pool_stays_small_and_spreads_over_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POOL", 4)
    store, _ = make_store(tmp_path / "s", some_scenes(27, masks=1), failed={"a": "x", "z": "x"})
    ids = [r.image_id for shard in store.plan for r in shard if r.image_id not in "az"]
    pool = compute_statistics(store).pool
    assert [c.record.image_id for c in pool] == ids[::4]
    assert [c.record in store.plan[c.shard] for c in pool] == [True] * len(pool)
