from collections import Counter

import numpy as np
from tiny_stores import make_store, some_scenes

from alps.paint import covered
from alps.report import census as module
from alps.report.census import take_census
from alps.types import Masks


def test_the_census_is_what_a_plain_count_gives(tmp_path):
    scenes = some_scenes(8) | {"zz": (np.zeros((20, 30, 3), np.uint8), Masks.empty((20, 30)))}
    store, _ = make_store(tmp_path / "s", scenes, k=7, failed={"bad": "x"})
    census = take_census(store)
    masks = [scenes[i][1] for i in sorted(scenes)]  # as the plan sorts them
    area = np.concatenate([m.area for m in masks])
    category, distance = (
        np.concatenate(x)
        for x in zip(*(store.labels(s) for s in range(len(store.plan))), strict=True)
    )
    assert census.images == {"ok": 8, "empty": 1, "failed": 1}
    assert census.masks == len(area) == census.areas.sum()
    assert census.masks_per_image == Counter(len(m) for m in masks)
    assert census.covered == sum(covered(m) for m in masks)
    assert census.pixels == 9 * 20 * 30
    assert census.coverages.sum() == 9
    for c in range(7):
        assert census.class_masks[c] == (category == c).sum()
        assert census.class_area[c] == area[category == c].sum()
        np.testing.assert_allclose(census.class_distance[c], distance[category == c].mean())
    shares = [covered(m) / 600 for m in masks if len(m)]
    assert [module.coverage(s) for s in census.lowest] == sorted(shares)
    assert [s.image_id for s in census.failed] == ["bad"]
    assert [s.image_id for s in census.empty] == ["zz"]
    assert (np.diff(census.class_masks[census.by_size]) <= 0).all()


def test_the_pool_stays_small_and_spreads_over_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POOL", 4)
    store, _ = make_store(tmp_path / "s", some_scenes(27, masks=1), failed={"a": "x", "z": "x"})
    ids = [r.image_id for shard in store.plan for r in shard if r.image_id not in "az"]
    pool = take_census(store).pool
    assert [c.record.image_id for c in pool] == ids[::4]
    assert [c.record in store.plan[c.shard] for c in pool] == [True] * len(pool)
