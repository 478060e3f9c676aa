import pytest
import torch
from torch.nn import functional as F

from alps.errors import ConfigError
from alps.prediction.sliding import SlidingWindow
from alps.structures.tiles import Tile


def per_pixel(image):
    """A net without context: the logits of a pixel depend on that pixel alone."""
    channels = image.float() / 64
    return torch.cat([channels, channels.sum(1, keepdim=True) - 3], dim=1)


def with_context(image):
    """A net that sees its surroundings, and so where a window ends."""
    return per_pixel(F.avg_pool2d(image.float(), 9, stride=1, padding=4))


class Recorder:
    """A net that remembers what it was shown."""

    def __init__(self):
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(tuple(image.shape))
        return with_context(image)


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def reader(picture):
    return lambda tile: picture[:, tile.y0 : tile.y1, tile.x0 : tile.x1]


def one_pass(net, picture):
    return net(picture[None]).softmax(1)[0]


# --- one pass -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blend", ["gaussian", "mean"])
@pytest.mark.parametrize("size", [(64, 64), (32, 64), (64, 32), (32, 32)])
def test_an_image_within_the_crop_is_exactly_one_pass(size, blend):
    window = SlidingWindow(crop=64, blend=blend)
    picture = image(*size)
    (found,) = window(with_context, [picture])
    assert torch.equal(found, one_pass(with_context, picture))


@pytest.mark.parametrize("size", [(33, 64), (1, 1), (50, 61)])
def test_an_odd_image_is_padded_right_and_below(size):
    seen = []

    def net(batch):
        seen.append(batch)
        return with_context(batch)

    window = SlidingWindow(crop=64, fill=(1, 2, 3))
    picture = image(*size)
    (found,) = window(net, [picture], divisor=32)
    assert found.shape == (4, *size)
    (batch,) = seen
    assert batch.dtype == torch.uint8
    assert batch.shape[2] % 32 == batch.shape[3] % 32 == 0
    assert torch.equal(batch[0, :, : size[0], : size[1]], picture)
    for channel, value in enumerate((1, 2, 3)):
        assert (batch[0, channel, size[0] :] == value).all()
        assert (batch[0, channel, :, size[1] :] == value).all()
    whole = net(batch)[..., : size[0], : size[1]].softmax(1)[0]
    assert torch.equal(found, whole)


# --- blending -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blend", ["gaussian", "mean"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [(64, 65), (97, 40), (130, 150)])
def test_windows_of_a_net_without_context_are_one_pass(size, overlap, blend):
    window = SlidingWindow(crop=32, overlap=overlap, blend=blend)
    picture = image(*size)
    (found,) = window(per_pixel, [picture])
    torch.testing.assert_close(found, one_pass(per_pixel, picture))


@pytest.mark.parametrize(
    "options", [{}, {"blend": "mean"}, {"flip": True, "scales": (0.5, 1.0, 2.0)}]
)
def test_probabilities_add_up_to_one(options):
    (found,) = SlidingWindow(crop=32, **options)(with_context, [image(70, 90)])
    assert found.dtype == torch.float32
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(0), torch.ones(70, 90))


def test_mean_blending_is_the_mean_of_the_windows_over_a_pixel():
    picture = image(32, 48)
    window = SlidingWindow(crop=32, blend="mean")
    (found,) = window(with_context, [picture])
    left, right = (
        one_pass(with_context, picture[..., :32]),
        one_pass(with_context, picture[..., 16:]),
    )
    expected = torch.cat(
        [left[..., :16], (left[..., 16:] + right[..., :16]) / 2, right[..., 16:]], 2
    )
    torch.testing.assert_close(found, expected)


def test_gaussian_blending_trusts_the_nearer_middle():
    def names_its_window(batch):
        """Class 0 in the window whose first column is black, else class 1."""
        first = (batch[..., 0].sum((1, 2)) == 0).float()[:, None, None, None]
        logits = torch.cat([first, 1 - first], dim=1) * 200
        return logits.expand(-1, -1, *batch.shape[2:])

    picture = torch.full((3, 32, 48), 255, dtype=torch.uint8)
    picture[..., 0] = 0
    (found,) = SlidingWindow(crop=32)(names_its_window, [picture])
    shares = found[0, 16]
    assert (shares[:16] == 1).all()
    assert (shares[32:] == 0).all()
    assert (shares[16:32].diff() < 0).all()
    torch.testing.assert_close(shares[16:32] + shares[16:32].flip(0), torch.ones(16))


@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_blending_is_the_weighted_mean_written_out(overlap):
    picture = image(70, 90)
    window = SlidingWindow(crop=32, overlap=overlap)
    (found,) = window(with_context, [picture])
    offset = (torch.arange(32) - 15.5) / (32 / 8)
    bell = torch.exp(-(offset[:, None] ** 2 + offset**2) / 2)
    total, weights = torch.zeros(4, 70, 90), torch.zeros(70, 90)
    for tile in window.windows((70, 90)):
        rows, columns = slice(tile.y0, tile.y1), slice(tile.x0, tile.x1)
        total[:, rows, columns] += one_pass(with_context, picture[:, rows, columns]) * bell
        weights[rows, columns] += bell
    torch.testing.assert_close(found, total / weights)


def test_context_makes_a_difference_only_near_the_edges_of_windows():
    picture = image(96, 96)
    whole = one_pass(with_context, picture)
    errors = {}
    for blend in ("gaussian", "mean"):
        (found,) = SlidingWindow(crop=48, blend=blend)(with_context, [picture])
        errors[blend] = (found - whole).abs().mean()
    assert 0 < errors["gaussian"] < 0.5 * errors["mean"]


# --- batches ------------------------------------------------------------------------------------


def test_equal_sizes_share_passes_and_no_pass_is_larger_than_the_batch():
    net = Recorder()
    pictures = [image(32, 80, 1), image(32, 80, 2), image(20, 32, 3)]
    window = SlidingWindow(crop=32, batch_size=3)
    found = window(net, pictures, divisor=4)
    assert len(window.windows((32, 80))) == 4
    assert net.shapes == [(3, 3, 32, 32), (3, 3, 32, 32), (2, 3, 32, 32), (1, 3, 20, 32)]
    for picture, together in zip(pictures, found, strict=True):
        (alone,) = window(with_context, [picture], divisor=4)
        torch.testing.assert_close(together, alone)


def test_no_image_is_no_result():
    assert SlidingWindow(crop=32)(per_pixel, []) == []


def test_no_gradients_are_kept():
    layer = torch.nn.Conv2d(3, 2, 1)
    (found,) = SlidingWindow(crop=32)(lambda x: layer(x.float()), [image(40, 40)])
    assert not found.requires_grad


# --- bands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"blend": "mean"}, {"overlap": 0.0}, {"overlap": 0.8}])
@pytest.mark.parametrize("strip", [8, 40, 200])
def test_bands_are_cut_from_the_whole_bit_by_bit(strip, options):
    window = SlidingWindow(crop=32, batch_size=1, **options)
    picture = image(75, 110)
    (whole,) = window(with_context, [picture])
    found = torch.full_like(whole, torch.nan)
    for tile, part in window.bands(with_context, reader(picture), (75, 110), buffer=32 * strip):
        assert tile.size == part.shape[1:]
        assert tile.size[0] <= 32
        assert tile.size[1] <= strip
        rows, columns = slice(tile.y0, tile.y1), slice(tile.x0, tile.x1)
        assert found[:, rows, columns].isnan().all()
        found[:, rows, columns] = part
    assert torch.equal(found, whole)


def test_only_windows_between_strips_are_seen_twice():
    window, net, picture = SlidingWindow(crop=32), Recorder(), image(128, 256)
    list(window.bands(net, reader(picture), (128, 256), buffer=32 * 128))
    seen = sum(shape[0] for shape in net.shapes)
    assert len(window.windows((128, 256))) == 7 * 15
    assert seen == 7 * (15 + 1)


def test_bands_come_before_the_whole_image_is_read():
    window, picture, read = SlidingWindow(crop=32, batch_size=1), image(96, 96), []

    def record(tile):
        read.append(tile)
        return reader(picture)(tile)

    tile, _ = next(window.bands(per_pixel, record, (96, 96)))
    assert tile == Tile(0, 0, 96, 16)
    assert read == [Tile(x, 0, x + 32, 32) for x in range(0, 80, 16)]


# --- flips and scales ---------------------------------------------------------------------------


def test_flipping_makes_the_result_mirror_with_the_image():
    window = SlidingWindow(crop=64, flip=True)
    leaning = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 1, 1, 3)

    def net(batch):  # looks only to the right
        return per_pixel(F.conv2d(batch.float(), leaning, padding=(0, 1), groups=3))

    picture = image(64, 64)
    (found,), (mirrored,) = window(net, [picture]), window(net, [picture.flip(2)])
    torch.testing.assert_close(found, mirrored.flip(2))
    assert not torch.allclose(found, one_pass(net, picture))


def test_scales_change_the_size_the_net_sees():
    net = Recorder()
    (found,) = SlidingWindow(crop=64, scales=(0.5, 1.0, 1.5), flip=True)(net, [image(64, 48)], 16)
    assert [shape[2:] for shape in net.shapes] == [(32, 32)] * 2 + [(64, 48)] * 2 + [(96, 80)] * 2
    assert found.shape == (4, 64, 48)


def test_scales_agree_on_a_plain_image():
    plain = torch.full((3, 48, 80), 100, dtype=torch.uint8)
    (found,) = SlidingWindow(crop=32, scales=(0.5, 1.0, 2.0))(per_pixel, [plain])
    torch.testing.assert_close(found, one_pass(per_pixel, plain))


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0}, "crop=0: expected an integer number of pixels >= 1"),
        ({"overlap": 1.0}, "overlap=1.0: expected a fraction of the crop >= 0 and < 1"),
        ({"overlap": 128.0}, "overlap=128.0: expected a fraction of the crop"),
        ({"blend": "max"}, "blend=max: expected gaussian or mean"),
        ({"batch_size": 0}, "batch_size=0: expected an integer >= 1"),
        ({"scales": ()}, r"scales=\(\): expected a list of numbers > 0"),
        ({"scales": (1.0, -1.0)}, "expected a list of numbers > 0"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        SlidingWindow(**{"crop": 32, **options})
