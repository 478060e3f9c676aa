import pytest

from alps.errors import DatasetNotFound
from alps.images.plain import sample
from alps.images.plain.sample import DEEPFOREST, FILES, LARGE_FILES, SampleImages
from alps.pretrained.packages import PackageError
from alps.protocols import ImageSet
from tests.factories import create_image

IDS = ["2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_031", "SOAP_061"]


@pytest.fixture
def fetched(monkeypatch):
    """Calls of `fetch_members`, which writes small files."""
    calls = []

    def fetch(package, members):
        assert package == DEEPFOREST
        calls.append(sorted(path.name for path in members.values()))
        for path in members.values():
            if path.suffix == ".png":
                create_image(path, (20, 30))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("text")

    monkeypatch.setattr(sample, "fetch_members", fetch)
    return calls


def test_images_are_downloaded_once(tmp_path, fetched):
    images = SampleImages(str(tmp_path / "sample"))
    assert isinstance(images, ImageSet)
    records = images.records()
    assert [record.image_id for record in records] == IDS
    assert all(record.split == "train" and record.bytes > 0 for record in records)
    assert fetched == [sorted([*FILES, "LICENSE"])]
    assert images.read(records[1]).size == (20, 30)
    assert images.records() == records
    assert len(fetched) == 1


def test_a_partial_download_is_completed(tmp_path, fetched):
    images = SampleImages(str(tmp_path))
    records = images.records()
    (tmp_path / "SOAP_031.png").unlink()
    (tmp_path / "LICENSE").unlink()
    assert [r.image_id for r in images.records()] == [r.image_id for r in records]
    assert fetched[1:] == [["LICENSE", "SOAP_031.png"]]


def test_the_large_plot_is_optional(tmp_path, fetched):
    SampleImages(str(tmp_path)).records()
    large = SampleImages(str(tmp_path), large=True).records()
    assert fetched[1:] == [sorted(LARGE_FILES)]
    assert "2019_YELL_2_528000_4978000_image_crop2" in [record.image_id for record in large]
    assert [record.image_id for record in SampleImages(str(tmp_path)).records()] == IDS


def test_without_network_the_error_describes_manual_installation(tmp_path, monkeypatch):
    def fail(package, members):
        raise PackageError("pip cannot download deepforest==2.1.0: no network")

    monkeypatch.setattr(sample, "fetch_members", fail)
    with pytest.raises(DatasetNotFound) as error:
        SampleImages(str(tmp_path)).records()
    assert f"9 of 9 files of the sample are missing in {tmp_path} and cannot be downloaded" in str(
        error.value
    )
    assert str(error.value).endswith(
        "no network. To install them manually, unzip the wheel of deepforest==2.1.0 and copy "
        "deepforest/data/* and deepforest-2.1.0.dist-info/licenses/LICENSE to "
        f"{tmp_path}"
    )
