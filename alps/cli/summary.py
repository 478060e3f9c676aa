"""Printed summaries of a labelling run, an evaluation or a verification."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from alps.evaluation.objects import SIZES, InstanceScores
from alps.evaluation.pseudo_labels import Evaluation, caveats
from alps.labelling.timings import Timings
from alps.store.counts import count
from alps.store.label_store import LabelStore
from alps.store.verify import Verification

#: Number of faults of a store to list; further faults are counted.
MAX_LISTED = 40


def print_summary(store: LabelStore, timings: Timings) -> None:
    """Print the times of a run, the contents of its store, and the paths of the results."""
    counts = count(store)
    console = Console(highlight=False, markup=False)
    if timings.seconds:
        table = Table(
            "stage", "seconds", "images", "s/image", title="this run", title_justify="left"
        )
        for stage, seconds in timings.seconds.items():
            n = timings.images[stage]
            table.add_row(stage, f"{seconds:.1f}", str(n or ""), f"{seconds / n:.3f}" if n else "")
        console.print(table)
    else:
        console.print("nothing to do: the store is complete")
    table = Table(show_header=False, title=store.info.name, title_justify="left")
    labelled = counts.ok + counts.empty
    retry = " (overwrite=failed retries them)" if counts.failed else ""
    table.add_row("images", f"{labelled} labelled, {counts.failed} skipped{retry}")
    if counts.empty:
        blank = f" ({counts.blank} without data)" if counts.blank else ""
        table.add_row("", f"{counts.empty} of them without any mask{blank}")
    table.add_row("masks", f"{counts.masks} ({counts.masks / max(labelled, 1):.1f} per image)")
    if counts.dropped:
        table.add_row("", f"{counts.dropped} invalid boxes; see the log")
    of_data = " with data" if counts.nodata else ""
    table.add_row("coverage", f"{counts.coverage:.1%} of the pixels{of_data} are covered by masks")
    if counts.nodata:
        fraction = counts.nodata / (counts.nodata + counts.pixels)
        n = counts.nodata_images
        images = "1 image" if n == 1 else f"{n} images"
        table.add_row("no data", f"{fraction:.1%} of all pixels, in {images}: they get no label")
    table.add_row("classes", str(store.info.num_classes))
    console.print(table)
    # Printed outside the table, which would break a path over two lines.
    console.print(f"store   {store.root}\nreport  {store.root / 'report.html'}", soft_wrap=True)
    if (page := store.root / "choose_k.html").exists():
        console.print(f"k       {page}", soft_wrap=True)


def print_evaluation(evaluation: Evaluation, store: LabelStore) -> None:
    """Print the scores of the labels and of the baselines."""
    console = Console(highlight=False, markup=False)
    mapped, scored = (" and ".join(x) for x in (evaluation.learnt_on, evaluation.scored_on))
    table = Table(
        *("", "accuracy", "of covered", "mIoU", "NMI", "coverage"),
        title=f"against {len(evaluation.categories)} classes of ground truth",
        title_justify="left",
    )
    for name in ("labels", "oracle", "random", "binary"):
        rating = evaluation.ratings[name]
        values = (
            *(rating.everywhere.OA, rating.covered.OA, rating.everywhere.mIoU),
            *(rating.agreement.nmi, rating.coverage),
        )
        table.add_row(name, *(f"{value:.1%}" for value in values))
    console.print(table)
    k, occurring = len(evaluation.categories), evaluation.ratings["labels"].everywhere.num_scored
    if occurring < k:
        console.print(
            f"mIoU is a mean over {occurring} of {k} classes, because the rest do not occur"
        )
    console.print(
        f"clusters were mapped to classes on {mapped} and scored on {scored}"
        + ("" if evaluation.held_out else "; scores are too high if there are many clusters"),
        soft_wrap=True,
    )
    for sentence in caveats(evaluation):
        console.print(sentence, soft_wrap=True)
    if evaluation.skipped:
        n = len(evaluation.skipped)
        console.print(f"{n} {'image' if n == 1 else 'images'} could not be compared")
    console.print(f"page    {store.root / 'evaluation.html'}", soft_wrap=True)


def print_instances(scores: InstanceScores, store: LabelStore) -> None:
    """Print the scores of masks made from boxes by object size."""
    console = Console(highlight=False, markup=False)
    if not len(scores.iou):
        console.print(
            "no object was compared: all are ignored, have no ground-truth mask or an invalid box\n"
            f"page    {store.root / 'evaluation.html'}",
            soft_wrap=True,
        )
        return
    table = Table(
        "", "objects", "mean IoU", title="compared with ground-truth masks", title_justify="left"
    )
    for size in SIZES:
        ious = scores.of_size(size)
        table.add_row(size, str(len(ious)), f"{ious.mean():.4f}" if len(ious) else "")
    table.add_row("all", str(len(scores.iou)), f"{scores.mean:.4f}")
    console.print(table)
    console.print(f"AP {scores.ap:.4f}, AP50 {scores.ap50:.4f}, AP75 {scores.ap75:.4f}")
    if scores.unknown:
        console.print(f"{scores.unknown} objects have no ground-truth mask and are not compared")
    console.print(f"page    {store.root / 'evaluation.html'}", soft_wrap=True)


def print_verification(verification: Verification) -> None:
    """Print the faults of a store, and what will be rebuilt."""
    console = Console(highlight=False, markup=False)
    if verification.faults:
        table = Table("file", "problem", title="damaged", title_justify="left")
        for fault in verification.faults[:MAX_LISTED]:
            table.add_row(fault.file, fault.problem)
        console.print(table)
        if (more := len(verification.faults) - MAX_LISTED) > 0:
            console.print(f"and {more} more")
    for name in verification.unknown_files[:MAX_LISTED]:
        console.print(f"unknown file, kept: {name}", soft_wrap=True)
    if images := verification.images:
        console.print(f"{images.same} images are unchanged", soft_wrap=True)
        if images.changed:
            first = images.changed[0][1].file_name
            console.print(
                f"{len(images.changed)} images have changed (first: {first}): their shards and all "
                "classes are rebuilt",
                soft_wrap=True,
            )
        if images.absent:
            console.print(
                f"{len(images.absent)} images are missing (first: {images.absent[0]}): their "
                "masks and labels are kept",
                soft_wrap=True,
            )
        if images.unhashed:
            console.print(
                f"{images.unhashed} images have no recorded hash and cannot be compared: they "
                "were labelled by an older ALPS, or do not come from files",
                soft_wrap=True,
            )
    c = verification.counts
    if not verification.faults:
        todo = sum(verification.redo.values())
        total = f"{verification.files} files, {c['images']} images, {c['masks']} masks"
        console.print(f"intact: {total}" + (" so far" if todo else ""), soft_wrap=True)
        return
    redo = ", ".join(f"{stage} of {n} shards" for stage, n in verification.redo.items() if n)
    console.print(
        f"{verification.files} files checked, {len(verification.faults)} damaged (removed) or "
        f"missing; rebuilding {redo or 'pages and lists'}",
        soft_wrap=True,
    )
    for name, how in verification.lost().items():
        console.print(f"{name} is lost; write it again with {how}", soft_wrap=True)


def print_repair(verification: Verification, store: LabelStore) -> None:
    """Print whether the files of a repaired store match the hashes of its old manifest."""
    files = json.loads((store.root / "manifest.json").read_text())["files"]
    changed = [
        name
        for name, digest in verification.before.items()
        if name not in verification.lost() and files.get(name, {}).get("sha256") != digest
    ]
    console = Console(highlight=False, markup=False)
    if changed:
        console.print(
            f"repaired; {len(changed)} files differ from the old manifest (first: {changed[0]}): "
            "the manifest was damaged, or images or the versions of ALPS and torch have changed",
            soft_wrap=True,
        )
    else:
        console.print(
            "repaired" + ("; all bytes match the old manifest" if verification.before else "")
        )
