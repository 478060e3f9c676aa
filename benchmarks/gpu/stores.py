"""Bytes of the store: labelled twice, in two processes, and after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.disturbed import Program, contents, preload
from benchmarks.gpu.findings import Check, Finding, Table
from benchmarks.gpu.inputs import Inputs

RUNS = {
    "again": (),
    "two processes": ("engine.processes=2",),
    "killed after its first image, resumed": (),
}


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Label the same images in several ways, and compare every file with the first store."""
    n, points = (3, 2) if inputs.small else (8, 16)
    folder = inputs.folder / "images"
    folder.mkdir()
    for i, image in enumerate(inputs.images(n)):
        Image.fromarray(image).save(folder / f"{i}.png")
    settings = (
        *("+dataset=folder", "dataset.name=check", f"dataset.root={folder}", "shard_size=1"),
        *(f"masks.points_per_side={points}", "assign.k=4", f"sam.device={inputs.device}"),
        *(f"features.parts.timm.device={inputs.device}", "engine.threads=1"),
    )
    preload()
    expected = finished(inputs.folder / "first", settings)
    yield Check(f"a store of {len(expected)} files was written", len(expected) > n)
    rows: list[list[object]] = []
    for name, overrides in RUNS.items():
        place = inputs.folder / name.split(",")[0].replace(" ", "_")
        if name.startswith("killed"):
            program = started(place, settings)
            running = program.at_work()
            program.kill()
            program.wait()
            yield Check("the run was killed before its end", running)
        found = finished(place, (*settings, *overrides))
        names = sorted(found.keys() | expected.keys())
        other = [file for file in names if found.get(file) != expected.get(file)]
        rows.append([name, len(found), ", ".join(other[:4]) or "none"])
        yield Check(
            f"{name}: {len(other)} files differ{': ' * bool(other)}{other[:4] or ''}", not other
        )
    yield Table(f"Stores of {n} images against the first", ["", "files", "different"], rows)


def started(place: Path, settings: tuple[str, ...]) -> Program:
    """Start labelling; all stores have one name, because reports contain it."""
    place.mkdir(exist_ok=True)
    return Program(place / "store", settings=settings)


def finished(place: Path, settings: tuple[str, ...]) -> dict[str, bytes]:
    """Label to the end and return the content of all files.

    Raises:
        RuntimeError: label.py failed; the message is the end of its output.
    """
    program = started(place, settings)
    if program.wait():
        raise RuntimeError(f"label.py failed: {program.output()[-1000:]}")
    return contents(place / "store")
