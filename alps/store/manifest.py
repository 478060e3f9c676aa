"""The manifest of a finished store: counts, and size and sha256 of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from alps.store.label_store import LabelStore


def write_manifest(store: LabelStore) -> None:
    """Write manifest.json, the last file of a store: its presence means that it is complete."""
    counts = {"images": 0, "ok": 0, "empty": 0, "failed": 0, "masks": 0}
    for shard in range(len(store.plan)):
        for image in store.shard(shard).images():
            counts["images"] += 1
            counts[image.status] += 1
            counts["masks"] += image.n_masks
    with store.writing("manifest.json") as file:
        # The text of json.dump(..., indent=1), written file by file to bound the memory.
        file.write(json.dumps({"counts": counts}, indent=1)[:-2].encode() + b',\n "files": {')
        separator = b""
        for name in _files(store.root):
            path = store.root / name
            entry = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)}}
            lines = json.dumps(entry, indent=1).splitlines()[1:-1]
            file.write(separator + "".join(f"\n {line}" for line in lines).encode())
            separator = b","
        file.write(b"\n }\n}")


def _files(root: Path, folder: str = "") -> Iterator[str]:
    """Yield the files of a store, sorted within each folder; memory holds one folder at a time.

    Links, which no run writes, and hidden files, which belong to unfinished runs, are skipped.
    """
    with os.scandir(root / folder) as entries:
        names = sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not entry.name.startswith(".") and not entry.is_symlink()
        )
    for name, is_folder in names:
        if is_folder:
            yield from _files(root, f"{folder}{name}/")
        elif folder or name != "manifest.json":
            yield f"{folder}{name}"


def sha256(path: Path) -> str:
    """Return the sha256 of a file as a hex string."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
