import pytest

from alps.errors import ConfigError
from alps.structures.bands import check_bands


def test_names_of_bands():
    assert check_bands(None) is None
    assert check_bands(["B02", 8]) == ("B02", "8")


@pytest.mark.parametrize("bands", ["B02", [], [0], [1, 1], ["1", 1], [""], [True]])
def test_bands_are_a_list_of_numbers_and_descriptions(bands):
    with pytest.raises(ConfigError, match=r"expected a list of different bands, .* \[1,2,3,8\] or"):
        check_bands(bands)
