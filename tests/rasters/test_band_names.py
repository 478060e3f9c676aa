import pytest

from alps.rasters.band_names import Band, guess_rgb, resolve_bands


def bands(*descriptions, interpretations=(), dtype="uint16"):
    """Bands with these descriptions, and undefined where no interpretation is listed."""
    kinds = [*interpretations, *["undefined"] * (len(descriptions) - len(interpretations))]
    return [
        Band(i, name, kind, dtype)
        for i, (name, kind) in enumerate(zip(descriptions, kinds, strict=True), 1)
    ]


RGB = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("raster", "numbers"),
    [
        (bands("B02", "B03", "B04", "B08"), (3, 2, 1)),
        (bands("b02", "b03", "b04"), (3, 2, 1)),
        (bands(*[f"SR_B{i}" for i in range(1, 8)]), (4, 3, 2)),
        (bands("SR_B2", "SR_B3", "SR_B4", "SR_B5"), (3, 2, 1)),
        (bands("nir", "Red", "GREEN", "blue"), (2, 3, 4)),
        (bands("R", "G", "B"), (1, 2, 3)),
        (bands("", "", "", "", interpretations=("undefined", "blue", "green", "red")), (4, 3, 2)),
        (bands("", "", "", "", interpretations=(*RGB, "alpha"), dtype="uint8"), (1, 2, 3)),
        (bands("", "", "", dtype="uint8"), (1, 2, 3)),
        (bands("", "", "", "", dtype="uint8"), (1, 2, 3)),
        (bands("elevation", dtype="float32"), (1,)),
        (bands("", "", interpretations=("gray", "alpha")), (1,)),
    ],
)
def test_red_green_and_blue_are_guessed(raster, numbers):
    assert resolve_bands(raster, guess_rgb(raster).bands) == numbers


def test_descriptions_override_the_interpretation_of_new_8_bit_files():
    """GDAL declares the first three bands as red, green and blue, and the fourth as alpha."""
    raster = bands("B02", "B03", "B04", "B08", interpretations=(*RGB, "alpha"), dtype="uint8")
    guess = guess_rgb(raster)
    assert resolve_bands(raster, guess.bands) == (3, 2, 1)
    assert guess.certain


def test_guesses_from_the_order_of_bands_are_uncertain():
    assert not guess_rgb(bands("", "", "", dtype="uint8")).certain
    described = bands("x", "y", "z", interpretations=RGB, dtype="uint8")
    assert not guess_rgb(described).certain


@pytest.mark.parametrize(
    "raster",
    [
        bands("", "", "", ""),
        bands("", ""),
        bands(*[""] * 13, dtype="uint8"),
        bands("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"),  # Landsat 7
    ],
)
def test_unknown_bands_are_listed(raster):
    with pytest.raises(ValueError, match=r"are red, green and blue: 1 .*set .*dataset\.rgb="):
        guess_rgb(raster)


def test_long_lists_are_cut():
    with pytest.raises(ValueError, match=r"16  ?\(undefined, uint16\), … \(200 bands\)"):
        guess_rgb(bands(*[""] * 200))


def test_bands_are_resolved_by_number_description_and_colour():
    raster = bands("B02", "B03", "x", interpretations=("blue", "green", "red"))
    assert resolve_bands(raster, [3, "b02", "green"]) == (3, 1, 2)
    for name, message in (
        (4, "it has no band 4; its bands: 1 B02 "),
        ("B08", "it has no band 'B08'; its bands: 1 B02 "),
    ):
        with pytest.raises(ValueError, match=message):
            resolve_bands(raster, [name])
    with pytest.raises(ValueError, match="it has 2 bands 'B02'"):
        resolve_bands(bands("B02", "B02"), ["B02"])
