"""Make a store ready to be written: fix its plan, or check that the same run made it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NotRequired, TypedDict, Unpack

import pyarrow as pa
import pyarrow.parquet as pq

from alps.errors import ConfigError, StoreError, StoreMismatch
from alps.protocols import Identity
from alps.store.atomic import UNFINISHED, atomic
from alps.store.claims import FOLDER, Claims
from alps.store.label_store import OUTPUTS, PARTS, STAGES, LabelStore, Stage, StoreInfo
from alps.store.old_stores import as_before, refuse_mixture
from alps.store.tables import PLAN
from alps.structures.digest import digest
from alps.structures.numbers import check_number
from alps.structures.records import ImageRecord

#: What can be asked to be made anew.
Redo = Stage | Literal["failed"]
#: Images in a row group of the plan: what of it is in memory at once.
GROUP = 1 << 14
#: Raised whenever images or annotations enter their fingerprint otherwise.
VERSION = 2


class Settings(TypedDict):
    """The arguments of `draft`."""

    name: str
    images: Mapping[str, Any]
    records: Sequence[ImageRecord]
    identities: Mapping[Stage, Identity]
    num_classes: int
    ignore_index: int
    versions: Mapping[str, str]
    shard_size: NotRequired[int | None]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a run wants its store to be."""

    info: StoreInfo
    records: Sequence[ImageRecord]  # sorted by split and id
    shard_size: int

    def tables(self) -> Iterator[pa.Table]:
        """plan.parquet, piece by piece."""
        for start in range(0, len(self.records), GROUP):
            rows = [
                {"shard": i // self.shard_size, **asdict(record)}
                for i, record in enumerate(self.records[start : start + GROUP], start)
            ]
            yield pa.Table.from_pylist(rows, PLAN)

    def write_info(self, root: Path) -> None:
        """Write store.json."""
        with atomic(root, "store.json") as file:
            file.write(json.dumps(asdict(self.info), indent=1).encode())

    def write_plan(self, root: Path) -> None:
        """Write plan.parquet."""
        with (
            atomic(root, "plan.parquet") as file,
            pq.ParquetWriter(file, PLAN, compression="zstd") as writer,
        ):
            for table in self.tables():
                writer.write_table(table)


def draft(
    *,
    name: str,
    images: Mapping[str, Any],
    records: Sequence[ImageRecord],
    identities: Mapping[Stage, Identity],
    num_classes: int,
    ignore_index: int,
    versions: Mapping[str, str],
    shard_size: int | None = None,
) -> Draft:
    """Say what a store will be, before anything is written.

    Args:
        name: what the store is called.
        images: how to make the image set again: class, arguments, root.
        records: all images; they are sorted by split and id and cut into shards once.
        identities: per stage the settings that change its output; a stage that is absent does not
            run.
        num_classes: K; pixel values are 0..K-1.
        ignore_index: pixel value of unlabelled pixels.
        versions: of ALPS and the libraries, for the record.
        shard_size: images per shard; by default 1/64 of the images, at most 64: a kill costs little
            and a large store has few files.

    Raises:
        ConfigError: two images have the same id.
    """
    records = sorted(records, key=lambda r: (r.split, r.image_id))
    _refuse_duplicates(records)
    stages: dict[Stage, dict[str, Any]] = {}
    parent = _digest_all(map(_identify, records))
    images = {**images, "version": VERSION, "n": len(records), "fingerprint": parent}
    for stage in STAGES:
        if stage in identities:
            identity = json.loads(json.dumps(identities[stage]))
            parent = digest(stage, parent, identity)
            stages[stage] = {"fingerprint": parent, "identity": identity}
    info = StoreInfo(
        name=name,
        images=images,
        ignore_index=ignore_index,
        num_classes=num_classes,
        versions=versions,
        stages=stages,
    )
    check_number("shard_size", shard_size, "[1, inf)", whole=True, optional=True)
    return Draft(info, records, shard_size or min(64, -(-len(records) // 64)))


def adapt(root: Path, new: Draft) -> Draft:
    """Return the draft as the ALPS that made the store at ``root`` would describe it."""
    info, records = as_before(root, new.info, new.records)
    return replace(new, info=info, records=records)


def prepare(
    root: str | Path,
    *,
    claims: Claims | None = None,
    overwrite: Redo | None = None,
    verified: bool = False,
    **settings: Unpack[Settings],
) -> LabelStore:
    """Make a store, or open an existing one to go on with it.

    Args:
        root: folder of the store.
        claims: of this run, which is at the store until it releases them, unless the store is
            complete; None: only this call is.
        overwrite: redo this stage and those after it, whatever is there; ``failed``: the shards
            with images that could not be read.
        verified: the store has just been verified, and stays as it is where it is complete.
        settings: what `draft` takes.

    Raises:
        ConfigError: two images have the same id.
        StoreMismatch: a stage was made with other settings and is not to be overwritten.
        StoreError: the folder cannot be written, or holds something else; another run is at the
            store that is to be overwritten.
    """
    root = Path(root)
    new = draft(**settings)
    if overwrite != "masks":
        new = adapt(root, new)
        keep = verified or overwrite == "assign"
        refuse_mixture(root, new.info, redo=overwrite, keep=keep)
    with suppress(PermissionError):  # told when something is written
        if overwrite is None and (root / "manifest.json").exists():
            store = LabelStore(root)
            if first_difference(store.info, new.info) is None:
                store.discard_unfinished()
                return store
    if claims is None:
        with Claims(root) as own:
            return prepare(root, claims=own, overwrite=overwrite, verified=verified, **settings)
    claims.arrive()
    with claims.alone("plan"):
        entries = {path.name for path in root.iterdir()}
        if "store.json" not in entries and entries - {UNFINISHED, PARTS, FOLDER}:
            raise StoreError(
                f"{root} is not empty and not a label store; choose another folder with store=DIR"
            )
        _write(root, new, overwrite, claims)
    return LabelStore(root)


def _write(root: Path, new: Draft, overwrite: Redo | None, claims: Claims) -> None:
    """Write store.json and the plan where no other run has; delete what is to be redone."""
    redo, begun = None, False
    if (root / "store.json").exists():
        old = LabelStore(root)
        old.discard_unfinished()
        asked = None if overwrite == "failed" else overwrite
        redo = asked or first_difference(old.info, new.info)
        if redo is not None:
            _check_redo(old, new, redo, asked=asked is not None)
            claims.require_alone(f"redo {redo}")
            _delete_from(root, redo)
        elif overwrite == "failed" and (shards := _failed(old)):
            claims.require_alone("try failed images again")
            _delete_from(root, "assign")
            for name in ("masks/{:05d}.parquet", "images/{:05d}.parquet", "features/{:05d}.npy"):
                for shard in shards:
                    _delete(root / name.format(shard))
        begun = any(map(old.has_begun, STAGES))
    if redo is not None or not (root / "store.json").exists():
        new.write_info(root)
    # A run may have been stopped between the two files that are written first.
    if not begun and not (root / "plan.parquet").exists():
        new.write_plan(root)


def _delete_from(root: Path, redo: Stage) -> None:
    """Delete what a stage and those after it have written."""
    _delete(root / "manifest.json")  # else a kill from here on would leave a complete store
    for stage in STAGES[STAGES.index(redo) :]:
        for output in OUTPUTS[stage]:
            _delete(root / output)


def _failed(store: LabelStore) -> list[int]:
    """Shards with an image that could not be read."""
    return [
        shard
        for shard in range(len(store.plan))
        if store.has("masks", shard) and any(i.status == "failed" for i in store.images(shard))
    ]


def _identify(record: ImageRecord) -> tuple[str | int, ...]:
    """Return what an image stands by: its names, its bytes, and the digest of its annotations.

    No image is opened: that would take minutes for 100,000 of them on a network drive, each time
    that label.py starts. A change of pixels that keeps the length of the file is found by
    verify=images, from the sha256 that is kept when an image is read.
    """
    boxes = () if record.annotations is None else (record.annotations,)
    return record.split, record.image_id, record.file_name, record.bytes, *boxes


def _refuse_duplicates(records: Sequence[ImageRecord]) -> None:
    # Some file systems do not tell A from a: their files would overwrite each other.
    seen: dict[str, ImageRecord] = {}
    folders: dict[str, ImageRecord] = {}
    for record in records:
        _refuse_same(record, seen.setdefault(record.image_id.casefold(), record))
        for folder in PurePosixPath(record.image_id.casefold()).parents:
            folders.setdefault(str(folder), record)
    for record in records:
        # x.jpg and x.png/y.jpg: the map of the one lies where the folder of the other must.
        _refuse_same(record, folders.get(f"{record.image_id.casefold()}.png", record))


def _refuse_same(record: ImageRecord, other: ImageRecord) -> None:
    if other is not record:
        raise ConfigError(
            f"two images would share the name {record.image_id!r}: {other.file_name} and "
            f"{record.file_name}; rename one of them"
        )


def first_difference(old: StoreInfo, new: StoreInfo) -> Stage | None:
    """The first stage whose output this run would change."""
    if old.images["fingerprint"] != new.images["fingerprint"]:
        return "masks"
    return next((s for s in STAGES if old.stages.get(s) != new.stages.get(s)), None)


def refuse_other_settings(old: LabelStore, new: Draft) -> None:
    """Raise `StoreMismatch` if another run made the store, or what it has of it."""
    if redo := first_difference(old.info, new.info):
        _check_redo(old, new, redo, asked=False)


def _check_redo(old: LabelStore, new: Draft, redo: Stage, *, asked: bool) -> None:
    """Raise `StoreMismatch` if making ``redo`` and the next anew loses work not given up."""
    difference = first_difference(old.info, new.info)
    if difference is None or (asked and STAGES.index(redo) <= STAGES.index(difference)):
        return
    if not asked and not any(old.has_begun(s) for s in STAGES[STAGES.index(redo) :]):
        return
    if old.info.images["fingerprint"] != new.info.images["fingerprint"]:
        what = "other images: " + _compare_images(old, new.records)
    else:
        what = "other settings: " + _compare_settings(old.info, new.info, difference)
    raise StoreMismatch(
        f"{old.root} was made with {what}; go back to these, label into a new store (store=DIR) "
        f"or redo from this stage on (overwrite={difference})"
    )


def _compare_images(old: LabelStore, records: Sequence[ImageRecord]) -> str:
    before = {r.image_id: r for shard in old.plan for r in shard}
    now = {r.image_id: r for r in records}
    added, removed = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    changed = sorted(i for i in now.keys() & before.keys() if now[i] != before[i])
    return (
        f"{len(added)} added, {len(removed)} removed, {len(changed)} changed since "
        f"(first: {(added + removed + changed)[0]})"
    )


def _compare_settings(old: StoreInfo, new: StoreInfo, stage: Stage) -> str:
    a, b = (info.stages.get(stage, {}).get("identity", {}) for info in (old, new))
    fields = [k for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
    return ", ".join(
        f"{stage}.{k} is {a.get(k, 'absent')} there and {b.get(k, 'absent')} in this run"
        for k in fields[:3]
    )


def _digest_all(values: Iterable[object]) -> str:
    """`digest` of values that are never in memory together."""
    found, separator = hashlib.sha256(b"["), b""
    for value in values:
        found.update(separator + json.dumps(value, sort_keys=True).encode())
        separator = b", "
    found.update(b"]")
    return found.hexdigest()[:16]


def _delete(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot remove {error.filename or path}, which is to be made anew: {error.strerror}; "
            "permit it, then run the same command again"
        ) from error
