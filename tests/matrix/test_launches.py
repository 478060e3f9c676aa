"""The budget of launches for a whole tile; `make test` has the same with 4 × 4 points."""

import pytest

from alps.images.plain.sample import SampleImages
from alps.sam.segmenter import SamSegmenter
from tests.launches import check_launches
from tests.pretend_cuda import PretendCuda


@pytest.mark.timeout(1200)
def test_launches_of_the_default_recipe(tmp_path):
    images = SampleImages(root=str(tmp_path))
    record = next(r for r in images.records() if "YELL" in r.image_id)
    with PretendCuda() as cuda:
        segmenter = SamSegmenter("mobile", device="cuda")
        check_launches(cuda, segmenter, images.read(record).image[:1024, :1024], 32)
