"""Repair a label store: rewrite store.json and the plan, and remove damaged files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alps.errors import StoreError, StoreMismatch
from alps.store.faults import Fault
from alps.store.label_store import LabelStore
from alps.store.layout import COMMITS, STAGES, StoreInfo, index_map_path
from alps.store.plan import Draft, first_difference, refuse_other_settings
from alps.structures.records import Clusters


def repair_info(root: Path, new: Draft, listed: Mapping[str, Fault]) -> Fault | None:
    """Rewrite store.json if it is damaged and the tables have the fingerprints of this run.

    Args:
        root: folder of the store.
        new: the store that this run would make.
        listed: files that differ from the manifest.

    Returns:
        The fault that was repaired, or None.

    Raises:
        StoreError: a newer ALPS wrote the store.
        StoreMismatch: the store was made with other settings.
    """
    fault = listed.get("store.json")
    try:
        store = LabelStore(root)
        difference = first_difference(store.info, new.info)
    except (StoreError, KeyError, TypeError, AttributeError) as error:
        if "schema version" in str(error) and not fault:
            raise
        fault = fault or Fault("store.json", f"cannot be read: {_reason(error)}")
    else:
        field = _differing_field(store.info, new.info)
        late = STAGES[STAGES.index(difference) :] if difference else STAGES
        # If a stage has no output yet, new settings of this stage are not damage.
        if not fault and (field is None or (difference and not any(map(store.has_begun, late)))):
            return None
        if not fault and difference and _made_by_another(root, new):
            refuse_other_settings(store, new)
        fault = fault or Fault("store.json", f"its field {field!r} differs from this run")
    if _made_by_another(root, new):
        raise StoreMismatch(
            f"{root / 'store.json'} is damaged ({fault.problem}), and the tables in "
            "the store were made with other settings than this run's; verify the store with the "
            "command that made it"
        )
    new.write_info(root)
    return fault


def _differing_field(old: StoreInfo, new: StoreInfo) -> str | None:
    """Return the first field that differs, except versions and the folder of the images."""
    for field in fields(StoreInfo):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if field.name == "images":
            a, b = ({k: v for k, v in x.items() if k != "root"} for x in (a, b))
        if field.name != "versions" and a != b:
            return field.name
    return None


def _made_by_another(root: Path, new: Draft) -> bool:
    """Return whether all readable tables of a stage have other fingerprints than this run."""
    for stage, described in new.info.stages.items():
        matches = {
            _fingerprint(path) == described["fingerprint"]
            for path in (root / COMMITS[stage]).glob("*.parquet")
            if _fingerprint(path)
        }
        if matches == {False}:
            return True
    return False


def _fingerprint(path: Path) -> str:
    """Return the fingerprint in a table; "" if it cannot be read."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return str(metadata[b"alps.fingerprint"].decode())
    except Exception:  # a damaged file; its fault is found later
        return ""


def repair_plan(root: Path, new: Draft, listed: Mapping[str, Fault]) -> Fault | None:
    """Rewrite plan.parquet if it is damaged and this run would make the same shards.

    Args:
        root: folder of the store.
        new: the store that this run would make.
        listed: files that differ from the manifest.

    Returns:
        The fault that was repaired, or None.

    Raises:
        StoreError: this run would divide the images into other shards than the existing ones.
    """
    fault = listed.get("plan.parquet")
    if not fault:
        expected = pa.concat_tables(new.tables())
        try:
            stored = pq.read_table(root / "plan.parquet")
            # Earlier versions lack some columns.
            absent = {*expected.column_names} - {*stored.column_names}
            absent = {name for name in absent if expected[name].null_count == len(expected)}
            expected = expected.drop([*absent])
            shards = stored["shard"].to_numpy()
            steps = {0, *(shards[1:] - shards[:-1]).tolist()}
            same = stored.drop(["shard"]).equals(expected.drop(["shard"]))
            if same and shards[0] == 0 and steps <= {0, 1}:
                return None
            fault = Fault("plan.parquet", "it differs from the plan of this image set")
        except Exception as error:  # decoders may raise any exception on damaged files
            fault = Fault("plan.parquet", f"cannot be read: {_reason(error)}")
    for path in sorted((root / "images").glob("*.parquet")):
        try:
            ids = pq.read_table(path, columns=["image_id"])[0].to_pylist()
            start = int(path.stem) * new.shard_size
        except (OSError, ValueError, pa.ArrowException):
            continue
        if ids != [r.image_id for r in new.records[start : start + new.shard_size]]:
            raise StoreError(
                f"{root / 'plan.parquet'} is damaged ({fault.problem}), and images/{path.name} has "
                f"{len(ids)} images that this run would put into other shards; set the shard_size "
                "with which the store was made"
            )
    new.write_plan(root)
    return fault


def remove(store: LabelStore, faults: Mapping[str, Fault]) -> None:
    """Delete damaged files and the files made from them, and the manifest last.

    If a run is killed in between, the manifest still shows which files are missing.

    Raises:
        StoreError: a file cannot be deleted.
    """
    shards = _shards_of_maps(store)
    for name in faults:
        if name in ("store.json", "plan.parquet", "manifest.json"):
            continue  # rewritten before, or deleted below
        _delete(store.root / name)
        folder, _, file = name.partition("/")
        number = file.partition(".")[0]
        if folder in ("images", "masks"):
            for other in ("labels/{}.parquet", "masks/{}.parquet", "features/{}.npy"):
                _delete(store.root / other.format(number))
            _delete(store.root / f"images/{number}.parquet")
        elif folder == "objects":
            for other in ("labels/{}.parquet", "objects/{}.parquet", "objects/{}.npy"):
                _delete(store.root / other.format(number))
        elif folder == "features":
            _delete(store.root / f"labels/{number}.parquet")
        elif folder == "ann" and not store.has_windows:
            _delete(store.root / f"labels/{shards[name]:05d}.parquet")
        elif folder == "clusters":
            labels = (f"labels/{shard:05d}.parquet" for shard in range(len(store.plan)))
            arrays = (f"clusters/{field.name}.npy" for field in fields(Clusters))
            for other in (*labels, *arrays):  # unknown files are kept
                _delete(store.root / other)
    if store.has_windows:
        _remove_unlabelled_maps(store)
    _delete(store.root / "manifest.json")


def _remove_unlabelled_maps(store: LabelStore) -> None:
    """Delete the index maps of rasters that have windows without labels."""
    for shard in store.missing("assign"):
        for file in {index_map_path(record) for record in store.plan[shard]}:
            _delete(store.root / file)


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot delete the damaged file {path}: {error.strerror}; change its permissions or "
            "delete it yourself, then run the same command again"
        ) from error


def _shards_of_maps(store: LabelStore) -> dict[str, int]:
    return {
        index_map_path(record): shard
        for shard, records in enumerate(store.plan)
        for record in records
    }


def _reason(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())
