"""Image and target stay together, and every view is possible."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from alps.datasets.transforms import TrainTransform, class_borders, color_matrix

IGNORE = 255
COLORS = torch.tensor(
    [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]],
    dtype=torch.uint8,
)
FILL = (250, 0, 250)


def painted(size: tuple[int, int], seed: int = 0, block: int = 12) -> tuple[Tensor, Tensor]:
    """Blocks of classes, and the image that has the colour of each."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, len(COLORS), (-(-size[0] // block), -(-size[1] // block)))
    target = torch.tensor(np.kron(blocks, np.ones((block, block)))[: size[0], : size[1]]).byte()
    return COLORS[target.long()].permute(2, 0, 1), target


def coordinates(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image of y and x, and a target that tells every pixel apart."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([y, x, torch.zeros_like(y)]).byte(), (y * size[1] + x).int()


def geometric(**options) -> TrainTransform:
    defaults = {"crop": 48, "photometric_p": 0.0, "cat_max_ratio": 1.0, "ignore_index": IGNORE}
    return TrainTransform(**{**defaults, "fill": FILL, **options})


def inside(target: Tensor, margin: int = 2) -> Tensor:
    """Pixels whose whole neighbourhood is of one class."""
    padded = target[None, None].float()
    width = 2 * margin + 1
    high = torch.nn.functional.max_pool2d(padded, width, 1, margin)
    low = -torch.nn.functional.max_pool2d(-padded, width, 1, margin)
    return (high == low)[0, 0]


@pytest.mark.parametrize("size", [(96, 96), (30, 100), (100, 30), (20, 20), (48, 48)])
@pytest.mark.parametrize("seed", range(8))
def test_image_and_target_are_transformed_alike(size: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    image, target = geometric()(*painted(size, seed))
    assert image.shape == (3, 48, 48)
    assert image.dtype == target.dtype == torch.uint8
    palette = torch.cat([COLORS, torch.tensor(FILL, dtype=torch.uint8).expand(250, 3)])
    sure = inside(target)
    assert sure.float().mean() > 0.1
    assert image[:, sure].T.equal(palette[target[sure].long()])


@pytest.mark.parametrize("seed", range(6))
def test_the_target_lies_on_the_grid_of_the_image(seed: int) -> None:
    """Torch's "nearest" would be off by up to half a pixel."""
    torch.manual_seed(seed)
    half = torch.zeros(60, 60, dtype=torch.uint8)
    half[:, 25:] = 1
    image, target = geometric(scale=(1.05, 3.0))(255 * half.expand(3, 60, 60), half)
    known = target != IGNORE
    assert ((image[0] > 127)[known] == (target[known] == 1)).all()


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.6, 2.0])
def test_target_pixels_match_image_pixels(ratio: float) -> None:
    torch.manual_seed(0)
    source = coordinates((100, 120))
    for _ in range(10):
        image, target = geometric(scale=(ratio, ratio), ignore_index=100_000)(*source)
        known = target != 100_000
        y, x = target // 120, target % 120
        assert ((image[0].int() - y).abs()[known] <= 1).all()
        assert ((image[1].int() - x).abs()[known] <= 1).all()
        spread = (y[known].max() - y[known].min() + 1) * (x[known].max() - x[known].min() + 1)
        assert spread.item() == pytest.approx(known.sum().item() / ratio**2, rel=0.1)


def test_all_positions_and_orientations_occur() -> None:
    torch.manual_seed(0)
    transform = geometric(crop=2, scale_p=0.0)
    views = [transform(*coordinates((3, 3)))[1] for _ in range(600)]
    found = {tuple(view.flatten().tolist()) for view in views}
    assert len(found) == 4 * 8  # places of the window × symmetries of the square
    assert sum(abs(view[0, 0] - view[0, 1]) == 1 for view in views) == pytest.approx(300, abs=50)


def test_a_small_image_is_placed_anywhere_in_the_crop() -> None:
    torch.manual_seed(0)
    transform = geometric(crop=4, scale_p=0.0)
    found = set()
    for _ in range(200):
        image, target = transform(*coordinates((2, 3)))
        outside = target == IGNORE
        assert outside.sum() == 16 - 6
        assert image[:, outside].T.unique(dim=0).tolist() == [[*FILL]]
        found.add(tuple(outside.nonzero().flatten().tolist()))
    assert len(found) == 3 * 2 * 2


def test_without_augmentation_image_and_target_are_unchanged() -> None:
    image, target = painted((48, 48))
    still = geometric(scale_p=0.0, flip_p=0.0, rot90=False)(image, target)
    assert still[0].equal(image)
    assert still[1].equal(target)


def test_the_scale_is_uniform_in_its_range() -> None:
    torch.manual_seed(0)
    transform = geometric(crop=100, scale=(0.5, 1.0))
    sides = [(transform(*painted((100, 100)))[1] != IGNORE).sum().sqrt().item() for _ in range(300)]
    assert min(sides) < 52
    assert max(sides) > 98
    assert np.histogram(sides, 5, (50, 100))[0] == pytest.approx([60] * 5, abs=25)


def test_the_view_depends_on_the_seed_of_torch() -> None:
    transform = TrainTransform(crop=32, photometric_p=1.0, ignore_index=IGNORE)
    views = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        views.append(transform(*painted((64, 80))))
    assert views[0][0].equal(views[2][0])
    assert views[0][1].equal(views[2][1])
    assert not views[0][0].equal(views[1][0])


def test_windows_of_one_class_are_avoided() -> None:
    torch.manual_seed(0)
    image, target = painted((120, 120), block=60)
    target[:] = 0
    target[50:70, 50:70] = 1
    options = {"crop": 24, "scale_p": 0.0}

    def mixed(**more) -> int:
        transform = geometric(**options, **more)
        return sum(len(transform(image, target)[1].unique()) > 1 for _ in range(100))

    assert mixed(cat_max_ratio=0.75) > 1.5 * mixed()
    plain = geometric(cat_max_ratio=0.75)(image, torch.zeros_like(target))[1]
    assert plain.shape == (48, 48)
    empty = geometric(cat_max_ratio=0.75)(image, torch.full_like(target, IGNORE))[1]
    assert (empty == IGNORE).all()


@pytest.mark.parametrize("distance", [1, 2, 5])
@pytest.mark.parametrize(
    ("ignore", "dtype"), [(255, torch.uint8), (65535, torch.int32), (0, torch.uint8)]
)
def test_borders_are_the_pixels_near_another_class(distance, ignore, dtype) -> None:
    target = painted((40, 50), block=7)[1].to(dtype)
    target[5:14, 10:30] = ignore
    expected = torch.zeros(target.shape, dtype=torch.bool)
    for y, x in np.ndindex(*target.shape):
        around = target[max(0, y - distance) : y + distance + 1, max(0, x - distance) :][
            :, : min(x, distance) + distance + 1
        ]
        classes = around[around != ignore].unique()
        expected[y, x] = target[y, x] != ignore and len(classes) > 1
    assert class_borders(target, ignore, distance).equal(expected)


def test_borders_are_ignored_in_pixels_of_the_source_image() -> None:
    half = torch.zeros(20, 40, dtype=torch.uint8)
    half[:, 20:] = 1
    options = {"crop": 80, "flip_p": 0.0, "rot90": False, "scale": (2.0, 2.0), "ignore_border": 3}
    target = geometric(**options)(half.expand(3, 20, 40), half)[1]
    rows = target[(target != IGNORE).any(1)]
    assert rows.unique(dim=0).tolist() == [[0] * 34 + [IGNORE] * 12 + [1] * 34]


def test_colours_of_the_padding_do_not_change() -> None:
    torch.manual_seed(0)
    image, target = painted((20, 20))
    options = {"photometric_p": 1.0, "scale_p": 0.0, "flip_p": 0.0, "rot90": False}
    changed, pad = geometric(**options)(image, target)
    assert changed[:, pad == IGNORE].T.unique(dim=0).tolist() == [[*FILL]]
    assert not changed[:, pad != IGNORE].equal(image.flatten(1))
    assert pad[pad != IGNORE].equal(target.flatten())


def applied(image: Tensor, **changes: float) -> Tensor:
    pixels = image.permute(1, 2, 0).numpy()
    still = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    matrix = color_matrix(np.ascontiguousarray(pixels), **{**still, **changes})
    return torch.tensor(cv2.transform(np.ascontiguousarray(pixels), matrix)).permute(2, 0, 1).int()


@pytest.mark.parametrize("factor", [0.0, 0.7, 1.0, 1.4])
@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation"])
def test_colour_changes_equal_those_of_torchvision(change: str, factor: float) -> None:
    rng = np.random.default_rng(0)
    image = torch.tensor(rng.integers(0, 256, (3, 20, 30), dtype=np.uint8))
    theirs = getattr(F, f"adjust_{change}")(image, factor)
    assert (applied(image, **{change: factor}) - theirs.int()).abs().max() <= 1


def test_combined_colour_changes_equal_successive_ones() -> None:
    rng = np.random.default_rng(0)
    image = torch.tensor(rng.integers(80, 150, (3, 20, 30), dtype=np.uint8))  # nothing is clipped
    theirs = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(image, 1.3), 0.6), 1.4)
    at_once = applied(image, brightness=1.3, contrast=0.6, saturation=1.4)
    assert (at_once - theirs.int()).abs().max() <= 3  # theirs is rounded down each time
    turned = applied(image, brightness=1.3, contrast=0.6, saturation=1.4, hue=0.05)
    assert (turned - applied(at_once.byte(), hue=0.05)).abs().max() <= 1


def test_hue_rotates_colours_and_preserves_gray_and_luma() -> None:
    rng = np.random.default_rng(0)
    gray = torch.tensor(rng.integers(0, 256, (1, 8, 8), dtype=np.uint8)).expand(3, -1, -1)
    for hue in (-0.4, 0.1, 0.5):
        assert applied(gray, hue=hue).equal(gray.int())
    dull = torch.tensor(rng.integers(110, 140, (3, 8, 8), dtype=np.uint8))  # nothing is clipped
    luma = torch.tensor([[0.299, 0.587, 0.114]], dtype=torch.float64)
    turned = applied(dull, hue=0.3)
    assert (luma @ (turned - dull).flatten(1).double()).abs().max() < 1
    assert (applied(dull, hue=0.0) == dull).all()
    assert (turned - dull).abs().max() > 5
    red = torch.tensor([140, 120, 120], dtype=torch.uint8)[:, None, None]
    assert applied(red, hue=1 / 3).argmax() == F.adjust_hue(red, 1 / 3).argmax() == 1
    assert applied(red, hue=-1 / 3).argmax() == F.adjust_hue(red, -1 / 3).argmax() == 2
