"""Prepare a store for writing: write its plan, or compare an existing store with this run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NotRequired, TypedDict, Unpack

import pyarrow as pa
import pyarrow.parquet as pq

from alps.errors import ConfigError, StoreError, StoreMismatch
from alps.protocols import Identity
from alps.store.atomic import UNFINISHED, atomic
from alps.store.claims import FOLDER, Claims
from alps.store.label_store import LabelStore
from alps.store.layout import OUTPUTS, PARTS, STAGES, Stage, StoreInfo
from alps.store.limits import STORE
from alps.store.old_stores import adapt_to_old_store, refuse_mixture
from alps.store.tables import PLAN
from alps.structures.digest import digest
from alps.structures.records import ImageRecord
from alps.structures.settings import check_settings

#: Values of the setting ``overwrite``.
Redo = Stage | Literal["failed"]
#: Images in a row group of the plan, the unit that is held in memory.
GROUP = 1 << 14
#: Incremented when the fingerprint of images or annotations is computed differently.
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
    """The store that a run would make."""

    info: StoreInfo
    records: Sequence[ImageRecord]  # sorted by split and id
    shard_size: int

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows of plan.parquet in tables of `GROUP` images."""
        for start in range(0, len(self.records), GROUP):
            rows = [
                {"shard": i // self.shard_size, **asdict(record)}
                for i, record in enumerate(self.records[start : start + GROUP], start)
            ]
            yield pa.Table.from_pylist(rows, self.schema)

    @property
    def schema(self) -> pa.Schema:
        """Columns of plan.parquet; without the windows if all records are whole images."""
        if any(record.window for record in self.records):
            return PLAN
        return PLAN.remove(PLAN.get_field_index("window"))

    def write_info(self, root: Path) -> None:
        """Write store.json."""
        with atomic(root, "store.json") as file:
            file.write(json.dumps(asdict(self.info), indent=1).encode())

    def write_plan(self, root: Path) -> None:
        """Write plan.parquet."""
        with (
            atomic(root, "plan.parquet") as file,
            pq.ParquetWriter(file, self.schema, compression="zstd") as writer,
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
    """Return the description of a store before anything is written.

    Args:
        name: name of the store.
        images: class, arguments and root of the image set, from which it can be created again;
            ``view`` (see `alps.protocols.ViewedSet`) is part of the fingerprint of the images.
        records: all images; they are sorted by split and id and cut into shards.
        identities: settings that change the output, by stage; an absent stage does not run.
        num_classes: number of classes K; pixel values are 0..K-1.
        ignore_index: value of unlabelled pixels.
        versions: versions of ALPS and the libraries, for information.
        shard_size: images per shard. The default, 1/64 of the images but at most 64, limits both
            the work lost by a kill and the number of files.

    Raises:
        ConfigError: two images have the same id.
    """
    records = sorted(records, key=lambda r: (r.split, r.image_id))
    _refuse_duplicates(records)
    stages: dict[Stage, dict[str, Any]] = {}
    parent = _digest_all(map(_identify, records))
    if "view" in images:
        parent = digest("view", parent, json.loads(json.dumps(images["view"])))
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
    check_settings(STORE, {"shard_size": shard_size})
    return Draft(info, records, shard_size or min(64, -(-len(records) // 64)))


def adapt(root: Path, new: Draft) -> Draft:
    """Return the draft as the version of ALPS that made the store at ``root`` would describe it."""
    info, records = adapt_to_old_store(root, new.info, new.records)
    return replace(new, info=info, records=records)


def prepare(
    root: str | Path,
    *,
    claims: Claims | None = None,
    overwrite: Redo | None = None,
    verified: bool = False,
    **settings: Unpack[Settings],
) -> LabelStore:
    """Create a store, or open an existing one to resume it.

    Args:
        root: folder of the store.
        claims: claims of this run; the run stays registered at the store until they are released.
            None: register the run during this call only. A complete store needs no registration.
        overwrite: redo this stage and later ones; ``failed``: redo the shards with images that
            could not be read.
        verified: the store has just been verified, so existing files are kept as they are.
        settings: arguments of `draft`.

    Returns:
        The store; its plan exists.

    Raises:
        ConfigError: two images have the same id.
        StoreMismatch: a stage was made with settings that differ from this run's, and ``overwrite``
            does not include it.
        StoreError: the folder cannot be written, or is neither empty nor a store; or another run
            uses a store that is to be overwritten.
    """
    root = Path(root)
    new = draft(**settings)
    if overwrite != "masks":
        new = adapt(root, new)
        keep = verified or overwrite == "assign"
        refuse_mixture(root, new.info, redo=overwrite, keep=keep)
    with suppress(PermissionError):  # reported on the first write
        if overwrite is None and (root / "manifest.json").exists():
            store = LabelStore(root)
            if first_difference(store.info, new.info) is None:
                store.discard_unfinished()
                return store
    if claims is None:
        with Claims(root) as claims:
            return prepare(root, claims=claims, overwrite=overwrite, verified=verified, **settings)
    claims.register_run()
    with claims.exclusive("plan"):
        entries = {path.name for path in root.iterdir()}
        if "store.json" not in entries and entries - {UNFINISHED, PARTS, FOLDER}:
            raise StoreError(
                f"{root} is not empty and not a label store; choose another folder with store=DIR"
            )
        _write(root, new, overwrite, claims)
    return LabelStore(root)


def _write(root: Path, new: Draft, overwrite: Redo | None, claims: Claims) -> None:
    """Write store.json and the plan unless they exist; delete the stages to be redone."""
    redo, has_output = None, False
    if (root / "store.json").exists():
        old = LabelStore(root)
        old.discard_unfinished()
        requested = None if overwrite == "failed" else overwrite
        redo = requested or first_difference(old.info, new.info)
        if redo is not None:
            _check_redo(old, new, redo, requested=requested is not None)
            claims.require_exclusive(f"redo {redo}")
            _delete_from(root, redo)
        elif overwrite == "failed" and (shards := _failed(old)):
            claims.require_exclusive("retry failed images")
            _delete_from(root, "assign")
            _delete(root / "objects")
            for name in ("masks/{:05d}.parquet", "images/{:05d}.parquet", "features/{:05d}.npy"):
                for shard in shards:
                    _delete(root / name.format(shard))
        has_output = any(map(old.has_begun, STAGES))
    if redo is not None or not (root / "store.json").exists():
        new.write_info(root)
    # A run may have been stopped between writing store.json and plan.parquet.
    if not has_output and not (root / "plan.parquet").exists():
        new.write_plan(root)


def _delete_from(root: Path, redo: Stage) -> None:
    """Delete the outputs of a stage and of later ones."""
    # First, so that a kill does not leave the store marked as complete.
    _delete(root / "manifest.json")
    for stage in STAGES[STAGES.index(redo) :]:
        for output in OUTPUTS[stage]:
            _delete(root / output)


def _failed(store: LabelStore) -> list[int]:
    """Return the numbers of the shards with an image that could not be read."""
    return [
        shard
        for shard in range(len(store.plan))
        if store.has("masks", shard)
        and any(i.status == "failed" for i in store.shard(shard).images())
    ]


def _identify(record: ImageRecord) -> tuple[str | int, ...]:
    """Return the identity of an image: names, size in bytes, digest of annotations, window.

    Images are not opened, which would take minutes for 100,000 files on a network drive at each
    start of label.py. verify=images detects a change of pixels that keeps the file size, by the
    sha256 that is stored when an image is read.
    """
    boxes = () if record.annotations is None else (record.annotations,)
    window = () if record.window is None else astuple(record.window)
    return record.split, record.image_id, record.file_name, record.bytes, *boxes, *window


def _refuse_duplicates(records: Sequence[ImageRecord]) -> None:
    # On case-insensitive file systems, files of ids that differ by case would overwrite each other.
    seen: dict[str, ImageRecord] = {}
    folders: dict[str, ImageRecord] = {}
    for record in records:
        _refuse_same(record, seen.setdefault(record.image_id.casefold(), record))
        for folder in PurePosixPath(record.image_id.casefold()).parents:
            folders.setdefault(str(folder), record)
    for record in records:
        # x.jpg and x.png/y.jpg: the index map x.png of the first is the folder of the second.
        _refuse_same(record, folders.get(f"{record.image_id.casefold()}.png", record))


def _refuse_same(record: ImageRecord, other: ImageRecord) -> None:
    if other is not record:
        raise ConfigError(
            f"two images would share the name {record.image_id!r}: {other.file_name} and "
            f"{record.file_name}; rename one of them"
        )


def first_difference(old: StoreInfo, new: StoreInfo) -> Stage | None:
    """Return the first stage whose output this run would change, or None."""
    if old.images["fingerprint"] != new.images["fingerprint"]:
        return "masks"
    return next((s for s in STAGES if old.stages.get(s) != new.stages.get(s)), None)


def refuse_other_settings(old: LabelStore, new: Draft) -> None:
    """Raise `StoreMismatch` if existing files were made with other settings than this run's."""
    if redo := first_difference(old.info, new.info):
        _check_redo(old, new, redo, requested=False)


def _check_redo(old: LabelStore, new: Draft, redo: Stage, *, requested: bool) -> None:
    """Raise `StoreMismatch` if redoing ``redo`` and later stages would delete work unrequested.

    Args:
        old: the existing store.
        new: the store that this run would make.
        redo: first stage to redo.
        requested: whether the user requested it.
    """
    difference = first_difference(old.info, new.info)
    if difference is None or (requested and STAGES.index(redo) <= STAGES.index(difference)):
        return
    if not requested and not any(old.has_begun(s) for s in STAGES[STAGES.index(redo) :]):
        return
    if old.info.images["fingerprint"] != new.info.images["fingerprint"]:
        what = "other images: " + _compare_images(old, new.records)
    else:
        a, b = (info.stages.get(difference, {}) for info in (old.info, new.info))
        what = compare_settings(difference, a.get("identity", {}), b.get("identity", {}))
    raise mismatch(old.root, difference, what)


def mismatch(root: Path, stage: Stage, what: str) -> StoreMismatch:
    """Return the error about a store that was made with other settings.

    Args:
        root: folder of the store.
        stage: first stage that differs.
        what: description of the difference.
    """
    return StoreMismatch(
        f"{root} was made with {what}; restore them, label into a new store (store=DIR), or redo "
        f"this stage and the later ones (overwrite={stage})"
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


def compare_settings(stage: Stage, old: Identity, new: Identity) -> str:
    """Return a description of the first three settings that differ.

    Args:
        stage: the stage.
        old: settings of the existing store.
        new: settings of this run.
    """
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return "other settings: " + ", ".join(
        f"{stage}.{name} is {old.get(name, 'absent')} in the store and {new.get(name, 'absent')} "
        "in this run"
        for name in names[:3]
    )


def _digest_all(values: Iterable[object]) -> str:
    """Return the `digest` of values from an iterable, without a list of them in memory."""
    hasher, separator = hashlib.sha256(b"["), b""
    for value in values:
        hasher.update(separator + json.dumps(value, sort_keys=True).encode())
        separator = b", "
    hasher.update(b"]")
    return hasher.hexdigest()[:16]


def _delete(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot delete {error.filename or path} to make it again: {error.strerror}; change "
            "its permissions, then run the same command again"
        ) from error
