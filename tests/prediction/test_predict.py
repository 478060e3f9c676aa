import json
import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

from alps.errors import ConfigError, DatasetNotFound, ImageError
from alps.images.files.read import read_image
from alps.prediction.files import Counts, Predictor
from alps.prediction.sliding import SlidingWindow
from alps.structures.palette import distinct_colors
from alps.structures.records import Category
from tests.factories import create_image, create_images


def brightest_band(image):
    """A net without context: red, green or blue."""
    return image.float()


def brightest(path):
    return read_image(path).argmax(axis=2)


def categories(k=3):
    return [Category(i, f"class {i}", color) for i, color in enumerate(distinct_colors(k))]


def predictor(net=brightest_band, k=3, *, weights="ab" * 32, window=None, **options):
    return Predictor(
        net=net,
        window=window or SlidingWindow(crop=32),
        categories=categories(k),
        weights=weights,
        **options,
    )


def test_a_folder_of_any_depth(tmp_path):
    create_image(tmp_path / "in/a.png", (50, 70), seed=1)
    create_image(tmp_path / "in/deep/er/b.jpg", (20, 30), seed=2)
    create_image(tmp_path / "in/deep/c.tif", (32, 32), seed=3, dtype=np.uint16)
    counts = predictor()(tmp_path / "in", tmp_path / "out")
    assert counts == Counts(written=3, kept=0, failed=0)
    files = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/**/*.*")}
    assert files == {"a.png", "deep/er/b.png", "deep/c.png", "categories.json", "predictor.json"}
    for name in ("a.png", "deep/er/b.jpg", "deep/c.tif"):
        with Image.open((tmp_path / "out" / name).with_suffix(".png")) as image:
            assert image.mode == "P"
            assert image.getpalette()[:9] == [v for c in distinct_colors(3) for v in c]
            np.testing.assert_array_equal(image, brightest(tmp_path / "in" / name))


def test_one_file(tmp_path):
    (path,) = create_images(tmp_path / "in", 1)
    assert predictor()(str(path), str(tmp_path / "out")).written == 1
    np.testing.assert_array_equal(Image.open(tmp_path / "out/image_0.png"), brightest(path))


def test_names_that_differ_only_in_the_suffix_keep_it(tmp_path):
    create_image(tmp_path / "in/a.png", seed=1)
    create_image(tmp_path / "in/a.jpg", seed=2)
    predictor()(tmp_path / "in", tmp_path / "out")
    for name in ("a.png", "a.jpg"):
        result = Image.open(tmp_path / "out" / f"{name}.png")
        np.testing.assert_array_equal(result, brightest(tmp_path / "in" / name))


def test_the_classes_lie_beside_the_results(tmp_path):
    create_images(tmp_path / "in", 1)
    predictor()(tmp_path / "in", tmp_path / "out")
    found = json.loads((tmp_path / "out/categories.json").read_text())
    assert [Category(c["id"], c["name"], tuple(c["color"])) for c in found] == categories()


def test_probabilities_of_a_plain_image(tmp_path):
    image = np.random.default_rng(0).integers(1, 255, (40, 50, 4), dtype=np.uint8)
    image[..., 3] = 255
    image[:, 30:, 3] = 0
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in/a.b.png")

    def net(image):
        return image.float() / 100

    predictor(net, probability=True)(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out/a.b.probability.png") as file:
        assert file.mode == "L"
        values = np.asarray(file)
    logits = image[..., :3].astype(np.float64) / 100
    expected = (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).max(axis=2) * 255
    np.testing.assert_allclose(values, np.where(image[..., 3], expected, 0), atol=0.51)
    (tmp_path / "out/a.b.probability.png").unlink()
    counts = predictor(net, probability=True)(tmp_path / "in", tmp_path / "out")
    assert counts == Counts(written=1, kept=0, failed=0)


def test_more_than_255_classes_are_16_bit(tmp_path):
    (path,) = create_images(tmp_path / "in", 1)

    def net(image):
        return torch.zeros(len(image), 300, *image.shape[2:]).index_fill_(1, torch.tensor(299), 9.0)

    predictor(net, k=300)(path, tmp_path / "out")
    with Image.open(tmp_path / "out/image_0.png") as image:
        assert image.mode == "I;16"
        assert (np.asarray(image) == 299).all()


def test_the_buffer_changes_nothing(tmp_path):
    create_image(tmp_path / "in/a.png", (90, 130))

    def net(image):
        return torch.nn.functional.avg_pool2d(image.float(), 7, stride=1, padding=3)

    results = {}
    for buffer in (32 * 10, 32 * 50, 1 << 22):
        predictor(net, buffer=buffer)(tmp_path / "in", tmp_path / f"out{buffer}")
        results[buffer] = (tmp_path / f"out{buffer}/a.png").read_bytes()
    assert len(set(results.values())) == 1


# --- a run that is not the first ----------------------------------------------------------------


def test_finished_images_are_kept(tmp_path):
    create_images(tmp_path / "in", 3)
    predictor()(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out/image_1.png").unlink()
    (tmp_path / "out/image_2.png").write_bytes(b"mine")
    counts = predictor()(tmp_path / "in", tmp_path / "out")
    assert counts == Counts(written=1, kept=2, failed=0)
    assert (tmp_path / "out/image_2.png").read_bytes() == b"mine"


def test_a_killed_run_leaves_no_half_result(tmp_path):
    create_images(tmp_path / "in", 2)
    calls = []

    def net(image):
        calls.append(image)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return brightest_band(image)

    with pytest.raises(KeyboardInterrupt):
        predictor(net, window=SlidingWindow(crop=32, batch_size=1))(
            tmp_path / "in", tmp_path / "out"
        )
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"image_0.png", "categories.json", "predictor.json"}
    assert predictor()(tmp_path / "in", tmp_path / "out") == Counts(written=1, kept=1, failed=0)


def test_predictions_of_other_classes_are_not_mixed(tmp_path):
    create_images(tmp_path / "in", 1)
    predictor()(tmp_path / "in", tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"out contains predictions of different classes.*output=DIR"
    ):
        predictor(k=4)(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"weights": "cd" * 32}, rf"weights was {'ab' * 32}, is {'cd' * 32}"),
        ({"window": SlidingWindow(crop=48)}, "window.crop was 32, is 48"),
        (
            {"window": SlidingWindow(crop=32, flip=True, scales=(1.0, 2.0))},
            r"window.scales was \[1.0\], is \[1.0, 2.0\]; window.flip was False, is True",
        ),
    ],
)
def test_maps_with_different_weights_or_windows_are_refused(tmp_path, other, message):
    create_images(tmp_path / "in", 2)
    predictor()(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out/image_0.png").unlink()
    with pytest.raises(ConfigError) as error:
        predictor(**other)(tmp_path / "in", tmp_path / "out")
    found = rf"predictions made with different settings \(predictor.json: {message}\); .*output=DIR"
    assert re.search(found, str(error.value))
    assert not (tmp_path / "out/image_0.png").exists()
    fewer = predictor(window=SlidingWindow(crop=32, batch_size=1))  # a matter of memory
    assert fewer(tmp_path / "in", tmp_path / "out") == Counts(written=1, kept=1, failed=0)


def test_maps_of_an_unknown_model_are_refused(tmp_path):
    create_images(tmp_path / "in", 1)
    for text in (None, "{", "[]"):
        predictor()(tmp_path / "in", tmp_path / f"out {text}")
        path = tmp_path / f"out {text}/predictor.json"
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(ConfigError, match=r"of an unknown model \(predictor.json does not id"):
            predictor()(tmp_path / "in", tmp_path / f"out {text}")


# --- what can go wrong --------------------------------------------------------------------------


def test_unreadable_files_are_reported_and_counted(tmp_path, caplog):
    create_images(tmp_path / "in", 2)
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more than that, alas")
    (tmp_path / "in/empty.tif").touch()
    with caplog.at_level(logging.WARNING):
        counts = predictor()(tmp_path / "in", tmp_path / "out")
    assert counts == Counts(written=2, kept=0, failed=2)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"skipped {tmp_path / 'in' / name}" for name in ("broken.png", "empty.tif")
    ]
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"image_0.png", "image_1.png", "categories.json", "predictor.json"}


def test_nothing_readable(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/empty.png").touch()
    with pytest.raises(ImageError, match=r"none of 1 images can be used; the first: .*is empty"):
        predictor()(tmp_path / "in", tmp_path / "out")


def test_no_such_input(tmp_path):
    with pytest.raises(DatasetNotFound, match=r"there is no .*/in; set input= to an image or a"):
        predictor()(tmp_path / "in", tmp_path / "out")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").touch()
    with pytest.raises(DatasetNotFound, match=r"no images under .*found 1 other files \(\.txt\)"):
        predictor()(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(("source", "target"), [("in", "in"), ("in", "in/out"), ("in/a.png", "in")])
def test_results_never_lie_among_the_images(tmp_path, source, target):
    create_image(tmp_path / "in/a.png")
    with pytest.raises(ConfigError, match=r"among the images: .*output=DIR"):
        predictor()(tmp_path / source, tmp_path / target)
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["a.png"]


def test_a_place_that_cannot_be_written(tmp_path):
    create_images(tmp_path / "in", 1)
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*out/predictor.json: .*output=DIR"):
        predictor()(tmp_path / "in", tmp_path / "out")
