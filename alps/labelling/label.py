"""Labels for a folder of images or an image set, in one call."""

from __future__ import annotations

from pathlib import Path

import faiss  # noqa: F401 - before torch, as in label.py: which is first decides how BLAS rounds
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
    """Label images as `python label.py` does, with the same defaults.

    A call that was stopped resumes when it is made again.

    Args:
        images: a folder of images, or an image set such as ``alps.images.Dota(root=...)``.
        recipe: ``alps``, ``alps_paper``, ``samrs``, ``samtext``, ``random`` or ``binary``; or the
            masks, features and assigner of your own as a `Recipe`, which has no use for ``k``,
            ``points_per_side``, ``sam``, ``device`` and ``seed``.
        k: number of classes where they are clusters or random.
        store: the folder to write; None: ``data/NAME_pl``, for boxes ``data/NAME_seg``.
        points_per_side: side of the grid of prompts per tile, of recipes without boxes.
        sam: ``mobile``, ``vit_b``, ``vit_l`` or ``vit_h``.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of clusters and random classes.
        overwrite: a stage to redo with those after it; ``failed``: images that could not be read.
        strict: whether anything that does not fit together in the images is an error.
        engine: where the work runs; None: this process, with two threads.

    Returns:
        The finished store.

    Raises:
        ConfigError: a setting is out of its range, or contradicts another.
        DatasetNotFound: there are no images.
        ImageError: there are images, and none of them can be read.
        StoreError: the store cannot be written, or was made with other settings.
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
