"""The function `alps.label`, which labels a folder of images or an image set."""

from __future__ import annotations

from pathlib import Path

import faiss  # noqa: F401 - before torch, as in label.py: the first import determines BLAS rounding
import yaml

from alps.images.plain.folder import Folder
from alps.images.stored import open_store
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label as label_images
from alps.labelling.recipes import Recipe, build_recipe
from alps.protocols import Engine, ImageSet
from alps.store.label_store import LabelStore
from alps.store.plan import Redo


def label(
    images: str | Path | ImageSet,
    recipe: str | Recipe = "alps",
    k: int = 46,
    store: str | Path | None = None,
    *,
    points_per_side: int = 32,
    sam: str = "mobile",
    device: str = "auto",
    seed: int = 0,
    overwrite: Redo | None = None,
    strict: bool = False,
    engine: Engine | None = None,
) -> LabelStore:
    """Label images, with the defaults of `python label.py`.

    Repeat an interrupted call to resume it.

    Args:
        images: a folder of images, or an image set such as ``alps.images.Dota(root=...)``.
        recipe: ``alps``, ``alps_paper``, ``samrs``, ``samtext``, ``random`` or ``binary``; or your
            own `Recipe`, for which ``k``, ``points_per_side``, ``sam``, ``device`` and ``seed`` are
            not used.
        k: number of classes of ``alps``, ``alps_paper`` and ``random``.
        store: the folder to write. None: ``data/NAME_pl``, or ``data/NAME_seg`` for recipes that
            use boxes.
        points_per_side: point prompts per row and column of a tile, for recipes without boxes.
        sam: ``mobile``, ``vit_b``, ``vit_l`` or ``vit_h``.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: seed of the clusters or random classes.
        overwrite: first stage to repeat; ``failed`` repeats the shards with images that could not
            be read.
        strict: whether inconsistencies in the dataset are an error.
        engine: runs the work in one or several processes. None: this process with two threads.

    Returns:
        The finished store.

    Raises:
        ConfigError: a setting is out of range, two settings contradict each other, or ``strict`` is
            set and the dataset is inconsistent.
        DatasetNotFound: there are no images.
        ImageError: none of the images can be read.
        StoreError: the store cannot be written, or was made with different settings.
        TooFewMasks: there are fewer masks than classes.
    """
    if isinstance(images, str | Path):
        root = Path(images)
        images = Folder(str(root), root.resolve().name)
    engine = engine or LocalEngine()
    options = {"k": k, "points_per_side": points_per_side, "sam": sam, "seed": seed}
    suffix = "seg" if recipe in ("samrs", "samtext") else "pl"
    config = {"recipe": recipe, **options} if isinstance(recipe, str) else {}
    if isinstance(recipe, str):
        threads = engine.threads if isinstance(engine, LocalEngine) else 1
        recipe = build_recipe(
            recipe,
            images,
            k=k,
            points_per_side=points_per_side,
            sam=sam,
            device=device,
            seed=seed,
            threads=threads,
        )
    name = f"{images.name}_{suffix}"
    made, _ = label_images(
        image_set=images,
        masks=recipe.masks,
        features=recipe.features,
        assign=recipe.assign,
        engine=engine,
        root=Path("data", name) if store is None else Path(store),
        name=name,
        config=f"# made by alps.label in Python\n{yaml.safe_dump(config)}",
        overwrite=overwrite,
        strict=strict,
    )
    return open_store(made.root)
