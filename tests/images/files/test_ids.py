import random
from collections import Counter
from pathlib import PurePosixPath

import pytest

from alps.errors import ConfigError
from alps.images.files.ids import image_ids


def ids(*files):
    return image_ids([PurePosixPath(f) for f in files])


def test_ids_have_no_suffix():
    assert ids("a.png", "b/c.tar.tif", "b/d", "e.f/g.JPG") == ["a", "b/c.tar", "b/d", "e.f/g"]


def test_files_that_would_share_an_id_keep_their_suffix():
    assert ids("x/a.tif", "x/a.png", "y/a.png") == ["x/a.tif", "x/a.png", "y/a"]


def test_case_is_ignored_in_the_comparison_and_kept_in_the_id():
    assert ids("Plot.png", "plot.tif") == ["Plot.png", "plot.tif"]
    assert ids("STRASSE.png", "straße.jpg") == ["STRASSE.png", "straße.jpg"]


def test_a_kept_suffix_may_collide_with_another_id():
    assert ids("a.png", "a.tif", "a.png.jpg") == ["a.png", "a.tif", "a.png.jpg"]


def test_paths_that_differ_only_in_case_are_refused():
    with pytest.raises(ConfigError, match=r"'P/a\.png' and 'p/A\.png' differ only in"):
        ids("b.png", "p/A.png", "P/a.png")


def test_ids_are_unique_and_independent_of_order():
    rng = random.Random(0)
    refused = 0
    for _ in range(500):
        parts = ["", "d/", "D/"], "aAb", ["", ".b", "x"], [".png", ".PNG", ".tif", ".png.tif"]
        names = {"".join(map(rng.choice, parts)) for _ in range(rng.randint(1, 8))}
        files = [PurePosixPath(name) for name in sorted(names)]
        shuffled = rng.sample(files, len(files))
        if len({name.casefold() for name in names}) < len(names):
            refused += 1
            messages = []
            for order in (files, shuffled):
                with pytest.raises(ConfigError) as error:
                    image_ids(order)
                messages.append(str(error.value))
            assert messages[0] == messages[1]
            continue
        result = dict(zip(files, image_ids(files), strict=True))
        assert result == dict(zip(shuffled, image_ids(shuffled), strict=True))
        assert len({image_id.casefold() for image_id in result.values()}) == len(files)
        stems = Counter(str(f.with_suffix("")).casefold() for f in files)
        for file, image_id in result.items():
            stem = str(file.with_suffix(""))
            assert image_id in (stem, str(file))
            if image_id != stem:  # never without a reason
                paths = {str(f).casefold() for f in files if f != file}
                assert stems[stem.casefold()] > 1 or stem.casefold() in paths
    assert 50 < refused < 450
