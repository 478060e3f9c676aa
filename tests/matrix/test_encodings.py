import pytest

from tests.matrix.encodings import check, list_encodings

ENCODINGS = list(list_encodings())


def test_there_are_enough():
    assert len({str(encoding) for encoding in ENCODINGS}) >= 250


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_an_encoding_is_read_as_tifffile_reads_it_or_refused(encoding, tmp_path):
    assert check(encoding, tmp_path) == ("refused" if encoding.refused else "equal")
