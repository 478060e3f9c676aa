"""Check a finished or unfinished label store and remove its damaged files.

Files listed in a manifest are compared with it by sha256. With or without a manifest, the contents
of tables, features, labels and index maps are checked for consistency. On request, images are read
and compared with the stored sha256. Then damaged files and the files computed from them are
deleted; the next run makes them again. A store that another run uses is not verified.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from alps.errors import StoreError
from alps.protocols import ImageSet
from alps.store.claims import Claims
from alps.store.faults import (
    Fault,
    check_categories,
    check_clusters,
    check_raster_maps,
    find_faults,
)
from alps.store.image_changes import ImageChanges, compare_images
from alps.store.label_store import LabelStore
from alps.store.layout import COMMITS, FINDINGS, STAGES, Stage, index_map_path
from alps.store.manifest import sha256
from alps.store.plan import Draft, adapt
from alps.store.raster_maps import Paint
from alps.store.repair import remove, repair_info, repair_plan
from alps.structures.records import Category, Clusters

#: Files that runs write into the root of the store.
ROOT_FILES = (
    *("store.json", "config.yaml", "plan.parquet", FINDINGS),
    *("categories.json", "manifest.json"),
    *("report.html", "choose_k.html", "evaluation.json", "evaluation.html"),
)
#: Files that a run writes on request only, and the override that requests each file.
ON_REQUEST = {
    "evaluation.json": "evaluate=true",
    "evaluation.html": "evaluate=true",
    "choose_k.html": "choose_k=[...]",
    "statistics/choose_k.csv": "choose_k=[...]",
    "statistics/choose_k.json": "choose_k=[...]",
    "statistics/choose_k.png": "choose_k=[...]",
}


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`."""

    faults: tuple[Fault, ...]
    unknown_files: tuple[str, ...]  # files that no run writes; they are kept
    files: int  # number of files checked
    counts: Mapping[str, int]  # number of images, in total and by status, and of masks
    redo: Mapping[Stage, int]  # number of shards that the next run has to process
    before: Mapping[str, str]  # sha256 by file, from the manifest; empty without a manifest
    images: ImageChanges | None = None  # None: images were not compared

    def lost(self) -> dict[str, str]:
        """Return the removed files that are written on request only, with the override for each."""
        return {
            fault.file: ON_REQUEST[fault.file] for fault in self.faults if fault.file in ON_REQUEST
        }


def verify(
    root: Path,
    new: Draft,
    *,
    paint: Paint,
    categories: Sequence[Category],
    images: ImageSet | None = None,
) -> Verification:
    """Check all files of a store and delete damaged ones.

    Memory holds one shard, the names of all files, and the manifest of a finished store.

    Args:
        root: folder of the store.
        new: the store that this run would make, with the settings that made the existing one.
        paint: function that draws index maps.
        categories: the classes.
        images: the images, to compare them with the stored sha256; None: do not compare.
            Files made from an image that has changed count as damaged.

    Returns:
        The faults, and what the next run has to make again.

    Raises:
        StoreError: there is no store, another run uses it, or this run would divide the
            images into other shards.
        StoreMismatch: the store was made with settings that differ from this run's.
    """
    if not any((root / name).exists() for name in ("store.json", "plan.parquet", "manifest.json")):
        raise StoreError(f"no label store at {root}, so there is nothing to verify; label first")
    with Claims(root) as claims:
        claims.register_run()
        claims.require_exclusive("verify the store")
        return _verify(root, new, paint, categories, images)


def _verify(
    root: Path, new: Draft, paint: Paint, categories: Sequence[Category], images: ImageSet | None
) -> Verification:
    new = adapt(root, new)
    faults: dict[str, Fault] = {}
    manifest = _read_manifest(root, faults)
    listed = dict(_compare(root, manifest))
    for fault in (repair_info(root, new, listed), repair_plan(root, new, listed)):
        if fault:
            faults[fault.file] = fault
    store = LabelStore(root)
    expected = _StoreFiles(store)
    faults |= {name: fault for name, fault in listed.items() if name in expected}
    counts = {"images": 0, "ok": 0, "empty": 0, "failed": 0, "masks": 0}
    for shard in tqdm(range(len(store.plan)), desc="contents", unit="shard"):
        for fault in (
            *find_faults(store, shard, paint, faults),
            *_find_missing(store, shard, complete=bool(manifest)),
        ):
            faults.setdefault(fault.file, fault)
        _count(store, shard, counts, faults)
    for fault in (*check_clusters(store), *check_categories(store, [*categories])):
        faults.setdefault(fault.file, fault)
    if store.has_windows:
        for fault in check_raster_maps(store, paint, faults):
            faults.setdefault(fault.file, fault)
    changes = None if images is None else compare_images(store, images, faults)
    for fault in changes.faults(store) if changes else ():
        faults.setdefault(fault.file, fault)
    unknown, n = [], 0
    for name in _walk(root):
        n += 1
        if name not in expected:
            unknown.append(name)
        elif manifest and name != "manifest.json" and name not in manifest["files"]:
            faults.setdefault("manifest.json", Fault("manifest.json", f"does not list {name}"))
    if manifest and not faults and manifest["counts"] != counts:
        faults["manifest.json"] = Fault("manifest.json", f"its counts are not {counts}")
    if faults:
        remove(store, faults)
    return Verification(
        faults=tuple(faults.values()),
        unknown_files=tuple(sorted(unknown)),
        files=n,
        counts=counts,
        redo={s: len(store.missing(s)) for s in STAGES if s in store.info.stages},
        before={name: entry["sha256"] for name, entry in manifest.get("files", {}).items()},
        images=changes,
    )


def _read_manifest(root: Path, faults: dict[str, Fault]) -> dict[str, Any]:
    """Read the manifest; {} if it is missing or damaged. Damage is added to ``faults``."""
    try:
        text = (root / "manifest.json").read_bytes()
        manifest = json.loads(text)
        for entry in manifest["files"].values():
            _ = entry["bytes"], entry["sha256"]
        if json.dumps(manifest, indent=1).encode() != text or not manifest["counts"]:
            raise ValueError("its text is not as ALPS writes it")
        return dict(manifest)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        faults["manifest.json"] = Fault("manifest.json", f"cannot be read: {reason}")
        return {}


def _compare(root: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Fault]]:
    """Yield (name, fault) of each file that differs from the manifest."""
    files = manifest.get("files", {})
    total = sum(int(entry["bytes"]) for entry in files.values())
    with tqdm(total=total, desc="hashes", unit="B", unit_scale=True, disable=not files) as bar:
        for name, entry in files.items():
            path = root / name
            if ".." in Path(name).parts or Path(name).is_absolute():
                continue  # a damaged manifest; files outside the store are not opened
            try:
                size = path.stat().st_size
                if size != entry["bytes"]:
                    yield name, Fault(name, f"{size} bytes, expected {entry['bytes']}")
                elif sha256(path) != entry["sha256"]:
                    yield name, Fault(name, "its sha256 has changed since it was written")
            except FileNotFoundError:
                yield name, Fault(name, "missing")
            except OSError as error:
                yield name, Fault(name, f"cannot be read: {error.strerror}")
            bar.update(int(entry["bytes"]))


class _StoreFiles:
    """The names of files that a run may write into a store."""

    def __init__(self, store: LabelStore) -> None:
        n = len(store.plan)
        parts = {"images": "parquet", "masks": "parquet", "features": "npy", "labels": "parquet"}
        self._names = {
            *ROOT_FILES,
            *(f"clusters/{field.name}.npy" for field in fields(Clusters)),
            *(f"{folder}/{i:05d}.{end}" for folder, end in parts.items() for i in range(n)),
            *(f"objects/{i:05d}.{end}" for end in ("parquet", "npy") for i in range(n)),
            *(index_map_path(record) for shard in store.plan for record in shard),
        }

    def __contains__(self, name: object) -> bool:
        return name in self._names or str(name).startswith("statistics/")


def _find_missing(store: LabelStore, shard: int, *, complete: bool) -> Iterator[Fault]:
    """Yield a fault for each missing file of a shard if files made from it exist."""
    has_results = (
        complete or (store.root / "clusters/centroids.npy").exists() or store.has_begun("assign")
    )
    for stage in STAGES:
        suffix = "npy" if stage == "features" else "parquet"
        needed = complete if stage == "assign" else has_results
        if needed and stage in store.info.stages and not store.has(stage, shard):
            yield Fault(f"{COMMITS[stage]}/{shard:05d}.{suffix}", "missing")
    if has_results and store.has_windows and not store.has_objects(shard):
        yield Fault(f"objects/{shard:05d}.parquet", "missing")


def _count(
    store: LabelStore, shard: int, counts: dict[str, int], faults: Mapping[str, Fault]
) -> None:
    name = f"images/{shard:05d}.parquet"
    if store.has("masks", shard) and name not in faults:
        for image in store.shard(shard).images():
            counts["images"] += 1
            counts[image.status] += 1
            counts["masks"] += image.n_masks


def _walk(root: Path) -> Iterator[str]:
    """Yield all files of the store except hidden ones, which belong to unfinished runs."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()
