import numpy as np

from alps.features.joined import JoinedFeatures
from alps.features.shape import ShapeFeatures
from alps.protocols import Featurizer
from alps.structures.masks import Masks
from alps.structures.records import Sample

COLOR, SHAPE = ShapeFeatures(color=2.0), ShapeFeatures(color=0.0, shape=1.0)


def test_parts_stand_side_by_side():
    rng = np.random.default_rng(0)
    sample = Sample("x", rng.integers(0, 255, (40, 30, 3), dtype=np.uint8))
    masks = Masks.from_array(rng.random((5, 40, 30)) < 0.3)
    joined = JoinedFeatures(parts={"color": COLOR, "none": None, "shape": SHAPE})
    assert isinstance(joined, Featurizer)
    assert joined.channels == 9
    np.testing.assert_array_equal(joined(sample, masks)[:, :6], COLOR(sample, masks))
    np.testing.assert_array_equal(joined(sample, masks)[:, 6:], SHAPE(sample, masks))
    assert joined(sample, Masks.empty((40, 30))).shape == (0, 9)


def test_the_identity_tells_the_parts_apart():
    joined = JoinedFeatures(parts={"color": COLOR, "none": None, "shape": SHAPE})
    assert joined.identity["color.color"] == 2.0
    assert joined.identity["shape.color"] == 0.0
    other = JoinedFeatures(parts={"color": SHAPE, "shape": COLOR})
    assert other.identity != joined.identity
