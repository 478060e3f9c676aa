"""Random and binary classes."""

import json

import numpy as np
import pytest

from alps.assign.baselines import Binary, Random
from alps.errors import ConfigError
from alps.protocols import Assigner
from alps.structures.masks import Masks

NO_FEATURES = np.zeros((2000, 0), np.float16)


def two_squares() -> Masks:
    dense = np.zeros((2, 12, 12), bool)
    dense[0, :6, :6], dense[1, 1:3, 1:3] = True, True
    return Masks.from_array(dense)


@pytest.mark.parametrize("assigner", [Random(), Binary()])
def test_there_is_nothing_to_fit(assigner: Assigner) -> None:
    assert isinstance(assigner, Assigner)
    assert assigner.fit([NO_FEATURES], [np.ones(2000, np.int64)]) is None
    assert len(assigner.categories()) == assigner.num_classes
    assert json.loads(json.dumps(assigner.identity)) == assigner.identity


def test_random_classes_depend_on_seed_and_image_alone() -> None:
    ids, distance = Random(k=5, seed=1).assign(NO_FEATURES, None, "site/a")
    assert ids.tobytes() == Random(k=5, seed=1).assign(NO_FEATURES, None, "site/a")[0].tobytes()
    assert ids.tobytes() != Random(k=5, seed=2).assign(NO_FEATURES, None, "site/a")[0].tobytes()
    assert ids.tobytes() != Random(k=5, seed=1).assign(NO_FEATURES, None, "site/b")[0].tobytes()
    assert np.bincount(ids, minlength=5).min() > 300
    assert np.isnan(distance).all()


def test_random_settings() -> None:
    made = [Random(), Random(k=7), Random(seed=7), Random(fill=7)]
    assert len({json.dumps(assigner.identity) for assigner in made}) == 4
    with pytest.raises(ConfigError, match=r"^k=0: expected an integer >= 1"):
        Random(k=0)
    with pytest.raises(ConfigError, match=r"^fill=-1: expected an integer number of pixels"):
        Random(fill=-1)


def test_random_masks_are_painted_and_filled_like_clusters() -> None:
    ids = np.array([3, 1])
    index_map = Random(fill=2).paint(two_squares(), ids, 255)
    assert index_map[0, 0] == 3
    assert index_map[1, 1] == 1
    assert index_map[0, 7] == 3
    assert index_map[0, 8] == 255


def test_binary_tells_masks_from_ground_and_leaves_no_pixel_out() -> None:
    masks = two_squares()
    ids, distance = Binary().assign(np.zeros((2, 0), np.float16), None, "a")
    index_map = Binary().paint(masks, ids, 255)
    assert (index_map == np.where(masks.to_array().any(axis=0), 0, 1)).all()
    assert np.isnan(distance).all()
    assert (Binary().paint(Masks.empty((4, 5)), ids[:0], 255) == 1).all()
    assert [c.name for c in Binary().categories()] == ["mask", "ground"]
