"""What is read, what is refused, and what a draw's seed decides."""

import logging

import numpy as np
import pytest
import torch
from labelled_arrays import LabelledArrays, random_pairs
from torch import Tensor
from torch.utils.data import DataLoader

from alps.datasets.sampler import Draw, ShardSampler, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.datasets.transforms import TrainTransform
from alps.errors import ImageError, LabelError
from alps.protocols import LabelledSet


def dataset(images: LabelledArrays, **options) -> SegmentationDataset:
    return SegmentationDataset(images, images.records(), **options)


def noise(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 256, image.shape, dtype=torch.uint8), target


def test_an_example_equals_the_image_and_target_of_the_set() -> None:
    images = random_pairs(3)
    assert isinstance(images, LabelledSet)
    data = dataset(images)
    assert len(data) == 3
    for i, (image_id, (image, target)) in enumerate(images.pairs.items()):
        example = data[i]
        assert example.image_id == image_id
        assert example.image.numpy().transpose(1, 2, 0).tolist() == image.tolist()
        assert example.target.tolist() == target.tolist()
        assert example.target.dtype == torch.uint8


def test_read_only_arrays_are_copied() -> None:
    images = random_pairs(1)
    for array in images.pairs["image_0"]:
        array.setflags(write=False)
    dataset(images)[0].image.zero_()
    assert images.pairs["image_0"][0].any()


def test_more_than_255_classes_are_supported() -> None:
    target = np.array([[0, 299], [65535, 256]], np.uint16)
    image = np.zeros((2, 2, 3), np.uint8)
    images = LabelledArrays({"a": (image, target)}, num_classes=300, ignore_index=65535)
    example = dataset(images)[0]
    assert example.target.tolist() == target.tolist()
    transform = TrainTransform(crop=8, scale=(2.0, 2.0), ignore_index=65535)
    values = dataset(images, transform=transform)[Draw(0, 1)].target
    assert set(values.unique().tolist()) == {0, 299, 65535, 256}
    target[0, 0] = 300
    with pytest.raises(LabelError, match=r"value 300 at 1 pixels; expected 0 to 299 .*65535"):
        dataset(images)[0]


def test_nodata_pixels_are_ignored() -> None:
    """Neither its class nor a value that is no class: nobody looks at the label there."""
    images = random_pairs(2)
    valid = np.ones((12, 16), bool)
    valid[:5] = False
    images.valid["image_0"] = valid
    target = images.pairs["image_0"][1]
    expected = target.copy()
    expected[:5] = 255
    target[2, 3] = 77
    assert dataset(images)[0].target.tolist() == expected.tolist()
    assert dataset(images)[1].target.tolist() == images.pairs["image_1"][1].tolist()
    transform = TrainTransform(crop=8, scale_p=0.0, photometric_p=0.0, ignore_index=255)
    image, target, *_ = dataset(images, transform=transform)[Draw(0, 3)]
    assert (target[image.sum(0) == 0] == 255).all()
    images.valid["image_0"] = ~valid
    target = images.pairs["image_0"][1]
    with pytest.raises(LabelError, match=r"value 77 at 1 pixels"):
        dataset(images)[0]


@pytest.mark.parametrize("ignore_index", [300, 65535, -100])
def test_an_ignore_index_outside_the_type_of_the_files_is_supported(ignore_index: int) -> None:
    images = random_pairs(1, ignore_index=ignore_index)
    transform = TrainTransform(crop=40, ignore_index=ignore_index)
    target = dataset(images, transform=transform)[Draw(0, 1)].target
    assert set(target.unique().tolist()) == {0, 1, 2, 3, ignore_index}


def test_collate_stacks_examples() -> None:
    images = random_pairs(3)
    data = dataset(images)
    batch = collate([data[i] for i in range(3)])
    assert isinstance(batch, Batch)
    assert batch.image.shape == (3, 3, 12, 16)
    assert batch.image.dtype == torch.uint8
    assert batch.target.dtype == torch.uint8  # an eighth of what the loss needs to transfer
    assert batch.target[2].tolist() == images.pairs["image_2"][1].tolist()


def test_a_draw_determines_all_random_choices_and_keeps_the_global_state() -> None:
    data = dataset(random_pairs(3), transform=noise)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = data[Draw(0, 2**64 - 1)]
    assert torch.rand(3).equal(expected)
    assert data[Draw(0, 2**64 - 1)].image.equal(first.image)
    assert not data[Draw(0, 5)].image.equal(first.image)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_does_not_affect_batches(num_workers: int) -> None:
    transform = TrainTransform(crop=8, ignore_index=255)
    data = dataset(random_pairs(5), transform=transform)

    def batches(workers: int) -> list[Batch]:
        sampler = StreamSampler(5, batch_size=3, total_batches=4, seed=0)
        loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=workers)
        return list(loader)

    for here, there in zip(batches(0), batches(num_workers), strict=True):
        assert here.image.equal(there.image)
        assert here.target.equal(there.target)


def test_an_unreadable_image_is_replaced_by_the_next(caplog) -> None:
    images = random_pairs(4)
    for broken in ("image_1", "image_3"):
        images.pairs[broken] = ("truncated", images.pairs[broken][1])
    data = dataset(images)
    with caplog.at_level(logging.WARNING):
        drawn = [data[Draw(i, 0)].image_id for i in (0, 1, 1, 3)]
    assert drawn == ["image_0", "image_2", "image_2", "image_0"]
    assert data.unreadable == {"image_1.png", "image_3.png"}
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot read image_{i}.png: truncated; replaced by the next image ({n} unreadable so far)"
        for i, n in ((1, 1), (3, 2))
    ]


def test_an_unreadable_image_is_an_error_in_evaluation() -> None:
    images = random_pairs(2)
    images.pairs["image_1"] = ("truncated", images.pairs["image_1"][1])
    loader = DataLoader(dataset(images), sampler=ShardSampler(2), collate_fn=list, batch_size=1)
    with pytest.raises(ImageError, match=r"cannot read image_1\.png: truncated"):
        list(loader)


@pytest.mark.parametrize(("n", "tries"), [(3, 3), (30, 20)])
def test_many_consecutive_unreadable_images_are_an_error(n: int, tries: int) -> None:
    images = random_pairs(n)
    images.pairs = {key: ("stale handle", target) for key, (_, target) in images.pairs.items()}
    with pytest.raises(
        ImageError,
        match=f"^{tries} consecutive images of arrays .* check memory; the "
        r"last error: cannot read image_\d+\.png: stale handle",
    ):
        dataset(images)[Draw(1, 0)]


@pytest.mark.parametrize("draw", [0, Draw(0, 0)])
def test_a_label_of_another_size_is_refused(draw: Draw | int) -> None:
    images = random_pairs(1)
    images.pairs["image_0"] = (images.pairs["image_0"][0], np.zeros((16, 12), np.uint8))
    with pytest.raises(LabelError) as error:
        dataset(images)[draw]
    assert str(error.value) == (
        "the label of image_0.png in memory has (height, width) = (16, 12) and its image (12, 16); "
        "expected equal sizes; cut or export both again"
    )


@pytest.mark.parametrize("draw", [0, Draw(0, 0)])
def test_a_label_value_outside_the_classes_is_refused(draw: Draw | int) -> None:
    images = random_pairs(1)
    images.pairs["image_0"][1][2, 3:6] = [4, 254, 255]
    with pytest.raises(LabelError) as error:
        dataset(images)[draw]
    assert str(error.value) == (
        "the label of image_0.png in memory contains the value 4, 254 at 2 pixels; expected 0 to 3 "
        "(4 classes) or 255 (ignored); correct the label or dataset.classes"
    )


def test_an_ignore_index_among_the_classes_is_no_error() -> None:
    assert isinstance(dataset(random_pairs(1, ignore_index=0))[0], Example)
