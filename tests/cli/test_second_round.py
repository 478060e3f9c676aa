"""The commands of docs/second_round.md on small images, with real weights of SAM."""

import json
import re
import shlex
from pathlib import Path

import numpy as np

import alps
from tests.factories import create_images
from tests.programs import LIGHTNING_WARNINGS, TINY

PAGE = Path(__file__).parents[2] / "docs/second_round.md"
#: Overrides that make the commands small.
LABEL = ("masks.points_per_side=4", "assign.k=3", "features=shape")
TRAIN = (*TINY, "data.crop=64", "trainer.max_steps=2", "data.hold_out=0.3", "logger=none")


def commands(heading):
    """The arguments of the commands below a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    block = re.search(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]
    return [shlex.split(line)[2:] for line in block.replace("\\\n", " ").splitlines()]


@LIGHTNING_WARNINGS
def test_the_commands_of_the_page(tmp_path, label, train):
    create_images(tmp_path / "images", 3, size=(64, 80))
    first, pretrain, predict, second = commands("Predicted classes")
    assert label(*first, *LABEL).returncode == 0
    pretrain[pretrain.index("init=imagenet")] = "init=null"
    status, _, err = train(*pretrain, *TRAIN)
    assert status == 0, err
    status, _, err = train(*predict, "trainer=cpu")
    assert status == 0, err
    done = label(*second)
    assert done.returncode == 0, done.stderr

    old, new = (alps.open_store(f"data/site_{suffix}") for suffix in ("pl", "pl2"))
    assert [c.name for c in new.categories()] == [c.name for c in old.categories()]
    for image in old.images():
        name = image.image_id
        assert new.masks(name).counts == old.masks(name).counts
        assert set(np.unique(new.index_map(name))) <= {0, 1, 2, 255}
    identity = json.loads((new.root / "store.json").read_text())["stages"]["assign"]["identity"]
    assert identity["assigner"] == "predicted"
    assert len(identity["predictions"]) == 64

    export, features = commands("Learnt features")
    status, _, err = train(*export)
    assert status == 0, err
    features[features.index("features.model=resnet50")] = "features.model=test_resnet"
    done = label(*features, "assign.k=3")
    assert done.returncode == 0, done.stderr
    identity = alps.open_store("data/site_features").info.stages["features"]["identity"]
    assert identity["features"] == "timm"
    assert "normalisation" in identity
