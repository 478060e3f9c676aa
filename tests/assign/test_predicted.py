"""Classes of masks from predictions that lie on disk."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from alps.assign.predicted import Predicted, class_confidence
from alps.assign.predictions import Prediction
from alps.errors import ConfigError, LabelError
from alps.protocols import Assigner
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord
from alps.structures.tiles import Tile
from tests.factories import create_raster

CLASSES = [Category(0, "roof", (1, 2, 3)), Category(1, "tree", (4, 5, 6))]
SIZE = (20, 30)


class Images:
    """Image ids, the name of each file, and its window."""

    name, root = "images", "memory"

    def __init__(self, *records):
        self._records = [ImageRecord(i, file, window=window) for i, file, window in records]

    def records(self):
        return self._records

    def read(self, record):
        raise AssertionError("no pixel is needed")


PLAIN = Images(("a", "a.jpg", None), ("deep/b", "deep/b.png", None), ("c", "img_dir/c.png", None))


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Left of column 15 roof, else tree; the probabilities say the reverse in the last rows."""
    rows = [{"id": c.id, "name": c.name, "color": c.color} for c in CLASSES]
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/categories.json").write_text(json.dumps(rows))
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 15:] = 1
    save(tmp_path / "maps/a.png", labels)
    return tmp_path / "maps"


def assigner(folder, images=PLAIN, **options):
    return Predicted(predictions=str(folder), images=images, **options)


def boxes(*boxes):
    """Masks that fill boxes (x0, y0, x1, y1)."""
    dense = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x0, y0, x1, y1) in zip(dense, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return Masks.from_array(dense)


def assign(predicted, image_id, masks):
    ids, distance = predicted.assign(np.zeros((len(masks), 0), np.float16), None, image_id, masks)
    return ids.tolist(), distance


def test_without_probabilities_the_majority_wins(folder):
    masks = boxes((0, 0, 10, 20), (20, 5, 30, 9), (10, 0, 18, 4))
    predicted = assigner(folder)
    assert isinstance(predicted, Assigner)
    assert predicted.categories() == CLASSES
    assert predicted.num_classes == 2
    ids, distance = assign(predicted, "a", masks)
    assert ids == [0, 1, 0]
    np.testing.assert_allclose(distance, [0, 0, 3 / 8], rtol=1e-6)
    ids, _ = assign(assigner(folder, min_confidence=0.7), "a", masks)
    assert ids == [0, 1, -1]
    index_map = predicted.paint(masks, np.array([0, 1, -1]), 255)
    assert (index_map[2, 5], index_map[7, 25]) == (0, 1)
    assert (index_map[:4, 10:18] == 255).all()


def test_confidence_is_the_mean_probability_over_pixels_with_data():
    """Against the sum over dense one-hot probabilities."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, SIZE, dtype=np.uint8)
    labels[labels == 3] = 255
    probability = np.where(labels == 255, 0, rng.integers(1, 256, SIZE)).astype(np.uint8)
    dense = rng.random((6, *SIZE)) < 0.2
    dense[5] = labels == 255
    found = class_confidence(Masks.from_array(dense), Prediction(labels, probability), 3)
    one_hot = (labels[None] == np.arange(3)[:, None, None]) * (probability / 255)
    for mask, row in zip(dense, found, strict=True):
        n = (mask & (labels != 255)).sum()
        np.testing.assert_allclose(row, (one_hot * mask).sum((1, 2)) / max(n, 1), rtol=1e-6)


def test_probabilities_outweigh_the_number_of_pixels(folder):
    probability = np.full(SIZE, 51, np.uint8)
    probability[:, 15:] = 204
    save(folder / "a.probability.png", probability)
    ids, distance = assign(assigner(folder), "a", boxes((10, 0, 18, 4)))
    assert ids == [1]
    np.testing.assert_allclose(distance, 1 - 3 / 8 * 0.8, rtol=1e-6)


def test_images_without_a_prediction_are_counted(folder, caplog):
    save(folder / "img_dir/c.png", np.ones(SIZE))
    predicted = assigner(folder)
    assert predicted.fit([], []) is None
    assert "1 of 3 images have no prediction in " in caplog.text
    assert "their masks get no class (first: deep/b)" in caplog.text
    ids, distance = assign(predicted, "deep/b", boxes((0, 0, 9, 9), (3, 3, 5, 5)))
    assert ids == [-1, -1]
    assert np.isnan(distance).all()
    assert assign(predicted, "c", boxes((0, 0, 9, 9)))[0] == [1]  # named after its file
    assert assign(predicted, "c", Masks.empty(SIZE))[0] == []


def test_pixels_without_data_have_no_vote(folder):
    labels = np.full(SIZE, 255)
    labels[0, 0] = 1
    save(folder / "a.png", labels)
    ids, distance = assign(assigner(folder), "a", boxes((0, 0, 9, 9), (10, 10, 20, 20)))
    assert ids == [1, -1]
    np.testing.assert_array_equal(distance, np.float32([0, np.nan]))


def test_windows_are_read_from_the_map_of_their_raster(folder):
    labels = np.zeros((1, 40, 60), np.uint8)
    labels[0, 20:, 30:] = 1
    create_raster(folder / "deep/town.tif", labels)
    tiles = {
        f"deep/town/{y:06d}_{x:06d}": Tile(x, y, x + 30, y + 20) for y, x in ((0, 0), (20, 30))
    }
    images = Images(*((i, "deep/town.tif", tile) for i, tile in tiles.items()))
    predicted = assigner(folder, images)
    for image_id, expected in zip(tiles, (0, 1), strict=True):
        assert assign(predicted, image_id, boxes((0, 0, 9, 9)))[0] == [expected]
    beyond = Images(("deep/town/000030_000040", "deep/town.tif", Tile(40, 30, 70, 50)))
    with pytest.raises(LabelError, match=r"town.tif has \(10, 20\); predict the same images"):
        assign(assigner(folder, beyond), "deep/town/000030_000040", boxes((0, 0, 9, 9)))


def test_the_identity_follows_the_content_and_not_the_folder(folder, tmp_path):
    first = assigner(folder).identity
    shutil.copytree(folder, tmp_path / "moved")
    assert assigner(tmp_path / "moved").identity == first
    assert assigner(folder, min_confidence=0.5).identity != first
    save(folder / "unrelated.png", np.zeros(SIZE))
    assert assigner(folder).identity == first
    save(folder / "a.probability.png", np.ones(SIZE))
    second = assigner(folder).identity
    assert second != first
    save(folder / "a.png", np.zeros(SIZE))
    assert assigner(folder).identity != second


def test_predictions_that_cannot_be_used_get_one_line(folder, tmp_path):
    masks = boxes((0, 0, 9, 9))
    save(folder / "a.png", np.zeros((10, 10)))
    with pytest.raises(LabelError, match=r"a has \(height, width\) = \(20, 30\), but .*\(10, 10\)"):
        assign(assigner(folder), "a", masks)
    save(folder / "a.png", np.full(SIZE, 7))
    with pytest.raises(LabelError, match=r"a contains 7, expected the classes 0 to 1 of .* or 255"):
        assign(assigner(folder), "a", masks)
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(LabelError, match=r"a\.png"):
        assign(assigner(folder), "a", masks)

    (folder / "a.png").unlink()
    with pytest.raises(
        ConfigError, match=r"no prediction of the 3 images in memory .* input=memory"
    ):
        assigner(folder).identity  # noqa: B018 - lists the files
    (folder / "categories.json").write_text('[{"id": 0}]')
    with pytest.raises(ConfigError, match=r"categories.json cannot be read .*, expected id, name"):
        assigner(folder)
    with pytest.raises(
        ConfigError, match=r"assign.predictions=\S+: there is no \S+categories.json"
    ):
        assigner(tmp_path / "no")
    with pytest.raises(
        ConfigError, match=r"min_confidence=2.0: expected a probability >= 0 and <= 1"
    ):
        assigner(folder, min_confidence=2.0)
