"""The plan of a store that is read piece by piece."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alps.errors import StoreError
from alps.store.shards import Plan, ShardSequence
from alps.store.tables import PLAN
from alps.structures.records import ImageRecord

RECORDS = [ImageRecord(f"{i:03d}", f"{i:03d}.png", bytes=i) for i in range(100)]


def write_plan(path: Path, shard_size: int, group: int) -> list[list[ImageRecord]]:
    rows = [
        {"shard": i // shard_size, "split": r.split, "image_id": r.image_id}
        | {"file_name": r.file_name, "bytes": r.bytes}
        for i, r in enumerate(RECORDS)
    ]
    pq.write_table(pa.Table.from_pylist(rows, PLAN), path, row_group_size=group)
    return [RECORDS[i : i + shard_size] for i in range(0, len(RECORDS), shard_size)]


@pytest.mark.parametrize(("shard_size", "group"), [(7, 100), (7, 10), (7, 3), (10, 10), (100, 30)])
def test_shards_need_not_end_where_row_groups_do(
    tmp_path: Path, shard_size: int, group: int
) -> None:
    expected = write_plan(tmp_path / "plan.parquet", shard_size, group)
    plan = Plan(tmp_path / "plan.parquet")
    assert list(plan) == expected
    assert plan.sizes.tolist() == [len(shard) for shard in expected]
    order = np.random.default_rng(0).permutation(len(plan))
    assert [plan[i] for i in order] == [expected[i] for i in order]


@pytest.mark.parametrize("shard", [-1, 15])
def test_a_shard_that_is_not_there_ends_a_loop(tmp_path: Path, shard: int) -> None:
    write_plan(tmp_path / "plan.parquet", 7, 10)
    with pytest.raises(IndexError):
        Plan(tmp_path / "plan.parquet")[shard]


def test_a_broken_plan_is_told_with_the_remedy(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.parquet", 7, 10)
    plan = Plan(tmp_path / "plan.parquet")
    (tmp_path / "plan.parquet").write_bytes(b"PAR1 and nothing else")
    for read in (lambda: Plan(tmp_path / "plan.parquet"), lambda: plan[0]):
        with pytest.raises(StoreError, match=r"cannot read .*plan\.parquet.*delete the file"):
            read()


def test_only_so_many_shards_are_kept_and_another_process_keeps_its_own() -> None:
    opened = ShardSequence(str, 5, 2)
    assert list(opened) == ["0", "1", "2", "3", "4"]
    assert opened[3] is opened[3]
    again = pickle.loads(pickle.dumps(opened))
    assert list(again) == list(opened) and len(again) == 5
