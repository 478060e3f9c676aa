"""What a finished store holds: counts, and bytes and sha256 of every file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from alps.claims import FOLDER
from alps.store import LabelStore


def write_manifest(store: LabelStore) -> None:
    """Write manifest.json; it comes last, so its presence says that the store is complete."""
    files = {
        path.relative_to(store.root).as_posix(): path
        for path in sorted(store.root.rglob("*"))
        if path.is_file()
        and path.name != "manifest.json"
        and not {".tmp", FOLDER}.intersection(path.parts)
    }
    counts = {"images": 0, "ok": 0, "empty": 0, "failed": 0, "masks": 0}
    for shard in range(len(store.plan)):
        for image in store.images(shard):
            counts["images"] += 1
            counts[image.status] += 1
            counts["masks"] += image.n_masks
    manifest = {
        "counts": counts,
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for name, path in files.items()
        },
    }
    with store.writing("manifest.json") as file:
        file.write(json.dumps(manifest, indent=1).encode())


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
