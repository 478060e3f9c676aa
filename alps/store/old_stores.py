"""Stores of ALPS up to e2724f9, whose images and masks lack versions; supported for one release.

Such stores can be read. They can be resumed if this version would make the same masks: the run then
uses fingerprints as that version computed them, so that those of the existing files match.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from alps.errors import StoreError, StoreMismatch
from alps.store.label_store import LabelStore
from alps.store.layout import STAGES, Stage, StoreInfo
from alps.structures.digest import digest
from alps.structures.records import ImageRecord

log = logging.getLogger(__name__)

#: First bytes of a TIFF or BigTIFF, in both byte orders.
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Bytes to read for the header of an image, which may include a colour profile.
HEADER = 1 << 16
#: Side of the blocks in which the older version computed superpixels, px.
BLOCK = 1024


def is_old(info: StoreInfo) -> bool:
    """Return whether a store was made by ALPS up to e2724f9."""
    return "version" not in info.images


def adapt_to_old_store(
    root: Path, info: StoreInfo, records: Sequence[ImageRecord]
) -> tuple[StoreInfo, Sequence[ImageRecord]]:
    """Describe a run as the older version would describe it, if it resumes an old store.

    Args:
        root: folder of the store; it may not exist.
        info: contents of store.json for this run.
        records: all images, sorted.

    Returns:
        The adapted ``info`` and ``records``; unchanged if there is no old store at ``root``, or if
        its images or masks differ.
    """
    store = _open(root)
    if store is None or not _same_images(store, records):
        return info, records
    before = _describe(info, store.info.images)
    if before.stages["masks"] != store.info.stages.get("masks"):
        return info, records
    if _annotated(records):
        log.warning(
            "%s was made by an older ALPS: it cannot be checked whether annotations or classes "
            "have changed since",
            root,
        )
        records = [*chain.from_iterable(store.plan)]
    return before, records


def refuse_mixture(root: Path, info: StoreInfo, *, redo: str | None, keep: bool) -> None:
    """Raise `StoreMismatch` if a run would mix masks of this version into an old store.

    Args:
        root: folder of the store.
        info: contents of store.json for this run, a result of `adapt_to_old_store`.
        redo: the stage that the user wants to redo.
        keep: keep existing files although this version would make different files.

    Raises:
        StoreMismatch: this version reads or labels an image of the store differently.
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
    superpixels = bool(info.stages["masks"]["identity"].get("ground"))
    images = chain.from_iterable(store.plan)
    if reason := find_change(Path(info.images["root"]), images, superpixels=superpixels):
        raise StoreMismatch(
            f"{root} was made by an older ALPS, which {reason}; label again with "
            "overwrite=masks or into another folder with store=DIR; or keep its masks, if they "
            "are complete, and only assign classes again with overwrite=assign"
        )


def _open(root: Path) -> LabelStore | None:
    try:
        store = LabelStore(root)
        return store if is_old(store.info) else None
    except StoreError:
        return None  # it does not exist yet or is damaged


def _same_images(store: LabelStore, records: Sequence[ImageRecord]) -> bool:
    """Return whether names and sizes in bytes match the plan.

    Digests of annotations are not compared, because the older version computed them differently.
    """
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
    # For DIOR, the older version added the size of the annotation file to the size of the image.
    return same and old.bytes >= new.bytes and new.annotations is not None


def _describe(info: StoreInfo, images: Mapping[str, Any]) -> StoreInfo:
    """Return ``info`` without the versions that older identities of masks and features lack."""
    parent = images["fingerprint"]
    images = {**images, "root": info.images["root"]}
    stages: dict[Stage, Mapping[str, Any]] = {}
    for stage in STAGES:
        if stage in info.stages:
            identity = info.stages[stage]["identity"]
            if stage != "assign":
                identity = {key: v for key, v in identity.items() if not _is_old(stage, key, v)}
            parent = digest(stage, parent, identity)
            stages[stage] = {"fingerprint": parent, "identity": identity}
    return replace(info, images=images, stages=stages)


def _is_old(stage: Stage, key: str, value: Any) -> bool:
    """Return whether an identity contains a version that older identities lack.

    The features of that version are those of version 1; `find_change` compares the masks.
    """
    return key.rpartition(".")[2] == "version" and (stage == "masks" or value == 1)


def _annotated(records: Sequence[ImageRecord]) -> bool:
    return any(record.annotations is not None for record in records)


def find_change(
    root: Path, records: Iterable[ImageRecord], *, superpixels: bool = False
) -> str | None:
    """Return how this version treats any of the images differently, or None if it does not.

    Args:
        root: folder of the images.
        records: all images; the description names the first one that is treated differently.
        superpixels: whether uncovered pixels are split into superpixels.
    """
    for record in records:
        if record.annotations is not None:
            return "read annotations differently"
        try:
            with (root / record.file_name).open("rb") as file:
                head = file.read(HEADER)
        except OSError:
            continue  # a missing image is reported when it is read
        if head[:4] in TIFF:
            return f"read TIFF files differently (first: {record.file_name})"
        if _is_transparent(head):
            return f"also labelled pixels without data (first: {record.file_name} has alpha)"
        if superpixels and _is_large(head):
            return (
                f"cut superpixels at the edges of blocks of {BLOCK} px (first larger image: "
                f"{record.file_name})"
            )
        if _is_float_volume(head):
            return f"also labelled voxels without data (first: {record.file_name} holds floats)"
    return None


def _is_transparent(head: bytes) -> bool:
    """Return whether a PNG or WebP file has an alpha channel or a transparent colour."""
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return head[25:26] in (b"\4", b"\6") or b"tRNS" in head.partition(b"IDAT")[0]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        offset = {b"VP8X": 20, b"VP8L": 24}.get(head[12:16], len(head))
        return any(flags & 0x10 for flags in head[offset : offset + 1])
    return False


def _is_large(head: bytes) -> bool:
    """Return whether an image has a side of more than `BLOCK` pixels."""
    try:
        with Image.open(BytesIO(head)) as image:
            return max(image.size) > BLOCK
    except (OSError, Image.DecompressionBombError):
        return False


def _is_float_volume(head: bytes) -> bool:
    """Return whether a NIfTI volume holds floats, and so may hold NaN."""
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 348)
        except zlib.error:
            return False
    floats = (16, 64)  # NIfTI codes of float32 and float64
    codes = (int.from_bytes(head[70:72], order) for order in ("little", "big"))
    return head[344:347] in (b"n+1", b"ni1") and any(code in floats for code in codes)
