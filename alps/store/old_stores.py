"""Stores of ALPS up to e2724f9, whose images and masks have no version; gone after one release.

What they hold stays as good as it was: they are read as ever. A run that goes on with one describes
itself as that ALPS would have, so that what is there keeps its fingerprints, but only where it
would also make the same masks.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from alps.errors import StoreError, StoreMismatch
from alps.store.label_store import STAGES, LabelStore, Stage, StoreInfo
from alps.structures.digest import digest
from alps.structures.records import ImageRecord

log = logging.getLogger(__name__)

#: How a TIFF starts, of both byte orders and of BigTIFF.
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Bytes in which the header of an image lies; a colour profile may come before it ends.
HEADER = 1 << 16


def is_old(info: StoreInfo) -> bool:
    """Whether a store was made by such an ALPS."""
    return "version" not in info.images


def as_before(
    root: Path, info: StoreInfo, records: Sequence[ImageRecord]
) -> tuple[StoreInfo, Sequence[ImageRecord]]:
    """Return what a run would have been before, for an old store of the same images and masks.

    Args:
        root: folder of the store; there may be none.
        info: what the run makes of it.
        records: all images, sorted.

    Returns:
        ``info`` and ``records`` where the store is none of these, or of other images or masks.
    """
    store = _open(root)
    if store is None or not _same_images(store, records):
        return info, records
    before = _describe(info, store.info.images)
    if before.stages["masks"] != store.info.stages.get("masks"):
        return info, records
    if _annotated(records):
        log.warning(
            "%s was made by an older ALPS: whether annotations or classes have changed since "
            "cannot be checked",
            root,
        )
        records = [*chain.from_iterable(store.plan)]
    return before, records


def refuse_mixture(root: Path, info: StoreInfo, *, redo: str | None, keep: bool) -> None:
    """Raise `StoreMismatch` where a run would add other masks to an old store than it holds.

    Args:
        root: folder of the store.
        info: what the run would write, of `as_before`.
        redo: what is asked to be made anew.
        keep: what is there may stay as it is, though it would be made otherwise now.
    """
    if redo == "masks" or not is_old(info):
        return
    store = LabelStore(root)
    reads = redo in ("features", "failed") or any(
        store.info.stages.get(stage) != described or store.missing(stage)
        for stage, described in info.stages.items()
        if stage != "assign"
    )
    if keep and not reads:
        return
    if reason := find_change(Path(info.images["root"]), chain.from_iterable(store.plan)):
        raise StoreMismatch(
            f"{root} was made by an older ALPS, which {reason}; overwrite=masks labels anew, "
            "store=DIR labels beside it, and overwrite=assign keeps its masks, once they are "
            "complete, and makes the classes anew"
        )


def _open(root: Path) -> LabelStore | None:
    try:
        store = LabelStore(root)
        return store if is_old(store.info) else None
    except StoreError:
        return None  # there is none yet, or it is damaged


def _same_images(store: LabelStore, records: Sequence[ImageRecord]) -> bool:
    """Whether names and bytes are those of the plan; annotations were digested otherwise."""
    if store.info.images.get("n") != len(records):
        return False
    try:
        planned = chain.from_iterable(store.plan)
        return all(_is_same(old, new) for old, new in zip(planned, records, strict=True))
    except (StoreError, ValueError):
        return False


def _is_same(old: ImageRecord, new: ImageRecord) -> bool:
    same = (old.split, old.image_id, old.file_name) == (new.split, new.image_id, new.file_name)
    if old.annotations is None:
        return same and old.bytes == new.bytes and new.annotations is None
    # Of DIOR the bytes of an annotation file were added to those of the image.
    return same and old.bytes >= new.bytes and new.annotations is not None


def _describe(info: StoreInfo, images: Mapping[str, Any]) -> StoreInfo:
    """Identities without the versions that masks and features did not have."""
    parent = images["fingerprint"]
    images = {**images, "root": info.images["root"]}
    stages: dict[Stage, Mapping[str, Any]] = {}
    for stage in STAGES:
        if stage in info.stages:
            identity = info.stages[stage]["identity"]
            if stage != "assign":
                names = [key for key in identity if key.rpartition(".")[2] != "version"]
                identity = {key: identity[key] for key in names}
            parent = digest(stage, parent, identity)
            stages[stage] = {"fingerprint": parent, "identity": identity}
    return replace(info, images=images, stages=stages)


def _annotated(records: Sequence[ImageRecord]) -> bool:
    return any(record.annotations is not None for record in records)


def find_change(root: Path, records: Iterable[ImageRecord]) -> str | None:
    """Return what is read or labelled otherwise by now, in words; None where nothing is.

    Args:
        root: folder of the images.
        records: all of them; the first that makes a difference is named.
    """
    for record in records:
        if record.annotations is not None:
            return "took annotations otherwise"
        try:
            with (root / record.file_name).open("rb") as file:
                head = file.read(HEADER)
        except OSError:
            continue  # an image that is not there is reported when it is read
        if head[:4] in TIFF:
            return f"read TIFF files otherwise (first: {record.file_name})"
        if _is_transparent(head):
            return f"labelled pixels without data, too (first: {record.file_name} has alpha)"
        if _is_float_volume(head):
            return f"labelled voxels without data, too (first: {record.file_name} holds floats)"
    return None


def _is_transparent(head: bytes) -> bool:
    """Whether a PNG or WebP file has an alpha channel, or a colour that stands for no data."""
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return head[25:26] in (b"\4", b"\6") or b"tRNS" in head.partition(b"IDAT")[0]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        place = {b"VP8X": 20, b"VP8L": 24}.get(head[12:16], len(head))
        return any(flags & 0x10 for flags in head[place : place + 1])
    return False


def _is_float_volume(head: bytes) -> bool:
    """Whether a NIfTI volume may hold NaN."""
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 348)
        except zlib.error:
            return False
    floats = (16, 64)  # datatype: float32, float64
    kinds = (int.from_bytes(head[70:72], order) for order in ("little", "big"))
    return head[344:347] in (b"n+1", b"ni1") and any(kind in floats for kind in kinds)
