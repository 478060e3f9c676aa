"""Make the stores, their images and the checkpoint of this folder, with the code of e2724f9.

    git worktree add ../old e2724f9 && cd ../old
    python ../alps/tests/old_stores/make.py ../alps/tests/old_stores

That commit is the last one whose stores have no version of their images. A newer ALPS has to open
them, see tests/store/test_old_stores.py.
"""

import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import tifffile
import torch
import yaml
from PIL import Image

sys.path.insert(0, str(Path.cwd()))

from alps.assign.category import ByCategory
from alps.assign.cluster import Cluster
from alps.engine.local import LocalEngine
from alps.features.sam import SamFeatures
from alps.images.dior import Dior
from alps.images.folder import Folder
from alps.labelling import label
from alps.manifest import write_manifest
from alps.masks.auto import AutoMasks
from alps.masks.box import BoxMasks
from tests.box_formats import create_dior
from tests.factories import create_folder_pair
from tests.fakes import BoxSegmenter, ColorSegmenter, flat_colors

TILES = {"tile_size": 64, "tile_overlap": 16}
TRAIN = (
    *("stage=finetune", "dataset=folder_pair", "dataset.root=pair", "run=run", "model=timm"),
    *("model.encoder=test_efficientnet_ln", "head=fpn", "head.channels=32"),
    *("head.pyramid_channels=32", "model.aux=false", "trainer=cpu", "data.batch_size=2"),
    *("trainer.max_steps=2", "logger=none", "optim=sgd", "optim.optimizer.momentum=0"),
    "optim.optimizer.nesterov=false",
    *("optim.lr=1e-12", "init=coarse.pt"),
)


def create_folders() -> None:
    """Write two folders of images, and a DIOR."""
    for name, suffix in (("images", ".png"), ("tiff", ".tif")):
        Path(name).mkdir()
        for i in range(4):
            image = flat_colors(40, 40 + 8 * i, seed=i)
            if suffix == ".tif":
                tifffile.imwrite(f"{name}/{i}.tif", image, photometric="rgb", compression="zlib")
            else:
                Image.fromarray(image).save(f"{name}/{i}.png")
    create_dior(Path("dior"), size=(48, 64))


def create_store(name: str, image_set, masks, features, assign) -> None:
    """Label; without pages and pictures, which are large and made from the tables."""
    store, _ = label(
        image_set=image_set,
        masks=masks,
        features=features,
        assign=assign,
        engine=LocalEngine(threads=1),
        root=f"{name}_pl",
        name=f"{name}_pl",
        config=f"name: {name}_pl\n",
        shard_size=1,
    )
    shutil.rmtree(store.root / "statistics")
    (store.root / "report.html").unlink()
    write_manifest(store)
    store.discard_unfinished()


def create_checkpoint(code: Path) -> None:
    """Train for two steps from weights of few digits, which so small a step keeps: they pack."""
    from alps.encoders import Encoder
    from alps.models.heads.fpn import FPN
    from alps.models.segmentation import SegmentationModel

    create_folder_pair(Path("pair"), n=2, size=(32, 32))
    torch.manual_seed(0)
    encoder = Encoder("test_efficientnet_ln")
    head = FPN(encoder.channels, channels=32, pyramid_channels=32)
    model = SegmentationModel(encoder, head, num_classes=4)
    coarse = {
        key: ((value * 16).floor() + 0.5) / 16 if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    torch.save(coarse, "coarse.pt")
    environment = os.environ | {"PYTHONPATH": str(code)}
    subprocess.run([sys.executable, code / "train.py", *TRAIN], check=True, env=environment)
    checkpoint = torch.load("run/last.ckpt", weights_only=False)
    saved = next(c for name, c in checkpoint["callbacks"].items() if "Checkpoint" in name)
    here = f"{Path.cwd()}/"  # of the machine that made it
    for key, value in saved.items():
        saved[key] = value.replace(here, "") if isinstance(value, str) else value
    saved["best_k_models"] = {k.replace(here, ""): v for k, v in saved["best_k_models"].items()}
    torch.save(checkpoint, "run/last.ckpt")
    Path("last.ckpt.xz").write_bytes(lzma.compress(Path("run/last.ckpt").read_bytes()))
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert "/" not in config["dataset"]["root"]
    shutil.rmtree("run")
    Path("coarse.pt").unlink()


def main() -> None:
    code = Path.cwd()
    os.chdir(sys.argv[1])
    create_folders()
    for name in ("images", "tiff"):
        create_store(
            name,
            Folder(name, name),
            AutoMasks(
                segmenter=ColorSegmenter(), points_per_side=4, stability_score_thresh=0.5, **TILES
            ),
            SamFeatures(segmenter=ColorSegmenter(), **TILES),
            Cluster(k=3, pca=2),
        )
    dior = Dior(root="dior")
    create_store("dior", dior, BoxMasks(segmenter=BoxSegmenter()), None, ByCategory(dior))
    create_checkpoint(code)


if __name__ == "__main__":
    main()
