import gzip
import re
import sys
import tracemalloc

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from alps.assign.baselines import Binary
from alps.errors import DatasetNotFound, ImageError, LabelError, MissingPackage
from alps.images.files import nifti
from alps.images.files.nifti import Volume, count_slices, read_label_slice, read_slice
from alps.images.plain.volumes import Volumes
from alps.images.stored import StoredLabels
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from alps.protocols import ImageSet
from alps.store.label_store import LabelStore
from tests.fakes import ColorSegmenter
from tests.ground_truth import cut_short, draw_volume, unzip, write_volume

#: Right, front and head, as voxels run along the three axes of a file.
CODES = ("RAS", "LPS", "LAS", "ASR", "SPL", "PIR")
SHAPE = (40, 30, 4)


def affine_of(codes):
    """From the voxels of a volume that is stored along ``codes`` to millimetres."""
    back = axcodes2ornt(codes)
    turn = np.zeros_like(back)
    turn[back[:, 0].astype(int)] = np.c_[np.arange(3), back[:, 1]]
    return np.diag([0.8, 0.9, 3, 1]) @ inv_ornt_aff(turn, SHAPE)


def seen(values):
    """How a person sees the slices (X, Y, Z): front above, right on the left."""
    return values.transpose(2, 1, 0)[:, ::-1, ::-1]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("codes", CODES)
def test_slices_do_not_depend_on_the_stored_orientation(tmp_path, codes, suffix):
    values, labels = draw_volume(SHAPE)
    affine = affine_of(codes)
    assert nibabel.aff2axcodes(affine) == tuple(codes)
    write_volume(tmp_path / f"a{suffix.lower()}", values, affine)
    write_volume(tmp_path / f"l{suffix.lower()}", labels, affine)
    image, truth = (
        (tmp_path / f"{x}{suffix.lower()}").rename(tmp_path / f"{x}{suffix}") for x in "al"
    )
    assert count_slices(image) == SHAPE[2]
    planes = np.stack([Volume(image).plane(i) for i in range(SHAPE[2])])
    np.testing.assert_array_equal(planes, seen(values))
    for i in range(SHAPE[2]):
        np.testing.assert_array_equal(read_label_slice(truth, i, image), seen(labels)[i])
        assert read_slice(image, i).image.shape == (30, 40, 3)


def test_slices_follow_the_canonical_orientation_of_nibabel(tmp_path):
    """An oblique affine, and none at all."""
    values = draw_volume(SHAPE)[0]
    tilted = np.eye(4)
    tilted[:3, :3] = [[0.1, -0.9, 0.2], [0.9, 0.2, -0.1], [0.1, 0.1, 2.5]]
    for name, affine in (("tilted", tilted), ("none", None)):
        path = tmp_path / f"{name}.nii"
        nibabel.Nifti1Image(values, affine).to_filename(path)
        expected = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
        found = np.stack([Volume(path).plane(i) for i in range(Volume(path).shape[2])])
        np.testing.assert_array_equal(found, seen(expected))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_all_slices_of_a_volume_share_one_window(tmp_path, dtype, suffix):
    values = draw_volume(SHAPE)[0].clip(0, 255).astype(dtype)
    path = tmp_path / f"x{suffix}"
    write_volume(path, values)
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.rint((seen(values).astype(float) - low).clip(0, high - low) / (high - low) * 255)
    for i in range(SHAPE[2]):
        image = read_slice(path, i).image
        assert image.dtype == np.uint8
        assert (image == image[..., :1]).all()
        assert np.abs(image[..., 0] - expected[i]).max() <= 1


def test_scale_and_offset_of_the_header_are_applied(tmp_path):
    image = nibabel.Nifti1Image(draw_volume(SHAPE)[0], np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    image.to_filename(tmp_path / "x.nii.gz")
    expected = seen(nibabel.load(tmp_path / "x.nii.gz").get_fdata())
    volume = Volume(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(volume.plane(1), expected[1], atol=1e-3)
    assert volume.plane(1).dtype == np.float32


def test_non_finite_voxels_are_black_and_invalid(tmp_path):
    values = draw_volume(SHAPE)[0].astype(np.float32)
    write_volume(tmp_path / "good.nii", values)
    values[:3, :3], values[5, 5, 0] = np.nan, np.inf
    write_volume(tmp_path / "bad.nii", values)
    pixels = [read_slice(tmp_path / f"{x}.nii", 0) for x in ("good", "bad")]
    good, bad = (p.image.astype(int) for p in pixels)
    wrong = ~np.isfinite(seen(values)[0])
    assert pixels[0].valid is None
    np.testing.assert_array_equal(pixels[1].valid, ~wrong)
    assert (bad[wrong] == 0).all()
    assert np.abs(good - bad)[~wrong].max() <= 3
    write_volume(tmp_path / "none.nii", np.full(SHAPE, np.nan, np.float32))
    assert not read_slice(tmp_path / "none.nii", 0).image.any()
    write_volume(tmp_path / "flat.nii", np.full(SHAPE, 7, np.int16))
    assert not read_slice(tmp_path / "flat.nii", 0).image.any()


def test_large_volumes_are_sampled(tmp_path, monkeypatch):
    path = tmp_path / "x.nii"
    noise = np.random.default_rng(0).normal(size=(64, 64, 8)).astype(np.float32)
    write_volume(path, draw_volume((64, 64, 8))[0] + noise)
    whole = nifti._window.__wrapped__(path)
    monkeypatch.setattr(nifti, "MAX_SAMPLE", 64 * 64 * 8 // 7)
    sampled = nifti._window.__wrapped__(path)
    assert sampled == pytest.approx(whole, rel=0.1)
    assert sampled != whole


def test_an_uncompressed_volume_is_read_in_part(tmp_path):
    path = tmp_path / "x.nii"
    shape = (128, 128, 200)
    nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)).to_filename(path)
    Volume(path).plane(3)  # imports
    tracemalloc.start()
    for i in range(0, 200, 20):
        Volume(path).plane(i)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 128 * 128 * 4 < path.stat().st_size / 10


@pytest.fixture
def root(tmp_path):
    for i, name in enumerate(("b/x", "a")):
        write_volume(tmp_path / "in" / f"{name}.nii.gz", draw_volume(SHAPE, i)[0])
    return tmp_path / "in"


def test_volumes_of_a_folder_are_listed_slice_by_slice(root):
    (root / "notes.txt").touch()
    images = Volumes(root=str(root), name="mine", split="val")
    assert isinstance(images, ImageSet)
    records = images.records()
    assert [r.image_id for r in records] == [f"{v}/{i:04d}" for v in ("a", "b/x") for i in range(4)]
    assert {r.split for r in records} == {"val"}
    last = records[-1]
    assert (last.file_name, last.video_id, last.frame_index) == ("b/x.nii.gz", "b/x", 3)
    assert last.bytes == (root / "b/x.nii.gz").stat().st_size
    sample = images.read(last)
    assert sample.size == (30, 40)
    np.testing.assert_array_equal(sample.image, read_slice(root / "b/x.nii.gz", 3).image)


def test_a_volume_stored_twice_keeps_its_suffix(root):
    write_volume(root / "a.nii", draw_volume(SHAPE)[0])
    volumes = {r.video_id for r in Volumes(root=str(root)).records()}
    assert volumes == {"a.nii", "a.gz", "b/x"}


def test_four_dimensions_are_refused_unless_the_last_has_length_one(tmp_path):
    values = draw_volume(SHAPE)[0]
    nibabel.Nifti1Image(values[..., None], np.eye(4)).to_filename(tmp_path / "one.nii")
    assert count_slices(tmp_path / "one.nii") == 4
    assert read_slice(tmp_path / "one.nii", 0).image.shape == (30, 40, 3)
    for name, shape in (("time", (*SHAPE, 2)), ("plane", SHAPE[:2])):
        nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)).to_filename(
            tmp_path / f"{name}.nii"
        )
        with pytest.raises(
            ImageError, match=r"has the shape \(.*\), expected one volume with three axes; .*file"
        ):
            count_slices(tmp_path / f"{name}.nii")


def test_a_negative_side_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    write_volume(path, draw_volume(SHAPE)[0])
    data = bytearray(path.read_bytes())
    data[42:44] = (-30).to_bytes(2, "little", signed=True)  # dim[1] of the header
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"has the shape \(-30, .*expected one volume"):
        count_slices(path)


def no_volume(path):
    path.write_bytes(b"this is no volume" * 40)


def empty(path):
    path.write_bytes(b"")


def complex_values(path):
    nibabel.Nifti1Image(np.zeros(SHAPE, np.complex64), np.eye(4)).to_filename(path)


def no_axes(path):
    image = nibabel.load(path)
    image.header["srow_z"] = 0
    image.header["qform_code"] = 0
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[:348] = image.header.binaryblock
    path.write_bytes(gzip.compress(bytes(data)))


def huge(path):
    header = nibabel.load(path).header
    header["dim"][1:4] = 32767
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(data)))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut_short, "it is truncated: its header declares 4800 voxels of int16; download it again"),
        (lambda p: cut_short(p, 0.01), "cannot read .*a.nii.gz"),
        (no_volume, "cannot read .*expected a NIfTI volume"),
        (empty, "cannot read .*Empty file"),
        (complex_values, "contains complex64, expected integers or floating-point numbers"),
        (no_axes, "has an affine that does not determine all axes"),
        (huge, "it is truncated|has slices of"),
    ],
)
def test_an_unusable_volume_costs_one_line_and_one_image(root, tmp_path, caplog, spoil, reason):
    spoil(root / "a.nii.gz")
    images = Volumes(root=str(root))
    assert [r.image_id for r in images.records()][:2] == ["a/0000", "b/x/0000"]
    store, _ = label(
        image_set=images,
        masks=AutoMasks(segmenter=ColorSegmenter(), points_per_side=2, ground=0),
        features=None,
        assign=Binary(),
        engine=LocalEngine(threads=1),
        root=tmp_path / "x_pl",
        name="x_pl",
        config="",
    )
    lines = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("skipped a.nii.gz: ")
    failed = [s for s in store.images() if s.status == "failed"]
    assert len(failed) == 1
    assert re.search(reason, failed[0].error), failed[0].error


def test_damage_in_a_compressed_volume_is_reported_when_it_is_read(root):
    path = root / "a.nii.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(data))
    images = Volumes(root=str(root))
    first = images.records()[0]
    with pytest.raises(ImageError, match=r"cannot read .*a.nii.gz: .*download it again"):
        images.read(first)
    with pytest.raises(LabelError, match=r"cannot read .*a.nii.gz: .*download it again"):
        read_label_slice(path, 0, root / "b/x.nii.gz")


def test_a_multi_member_gzip_file_is_complete(root):
    """Of these gzip's last word tells the length of the last part alone."""
    path = root / "a.nii.gz"
    data = gzip.decompress(path.read_bytes())
    expected = read_slice(path, 3).image
    path.write_bytes(gzip.compress(data[:5000]) + gzip.compress(data[5000:]))
    assert count_slices(path) == 4
    nifti._open.cache_clear()
    np.testing.assert_array_equal(read_slice(path, 3).image, expected)


def test_a_missing_slice_is_an_error(root):
    with pytest.raises(ImageError, match=r"a.nii.gz has 4 slices; there is no slice 4 \(from 0\)"):
        read_slice(root / "a.nii.gz", 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "contains 0.5 in slice 1"),
        (-1, "contains -1 in"),
        (300, "contains 300"),
        (np.nan, "contains nan"),
    ],
)
def test_labels_are_class_numbers(tmp_path, value, message):
    values, labels = draw_volume(SHAPE)
    write_volume(tmp_path / "a.nii", values)
    write_volume(tmp_path / "good.nii", labels.astype(np.float64))
    np.testing.assert_array_equal(
        read_label_slice(tmp_path / "good.nii", 1, tmp_path / "a.nii"), seen(labels)[1]
    )
    labels = labels.astype(np.float32)
    labels[7, 8, 1] = value
    write_volume(tmp_path / "bad.nii", labels)
    with pytest.raises(LabelError, match=rf"bad.nii {message}.*expected class numbers from 0 to"):
        read_label_slice(tmp_path / "bad.nii", 1, tmp_path / "a.nii")
    write_volume(tmp_path / "other.nii", labels[:, :, :3])
    with pytest.raises(
        LabelError, match=r"other.nii has the shape \(40, 30, 3\) and its image \(40"
    ):
        read_label_slice(tmp_path / "other.nii", 1, tmp_path / "a.nii")


def test_a_store_of_slices_is_a_training_set(root, tmp_path):
    """Slices lie one after the other in the shards, and are read again from the volumes."""
    images = Volumes(root=str(root))
    store, _ = label(
        image_set=images,
        masks=AutoMasks(segmenter=ColorSegmenter(), points_per_side=2, ground=0),
        features=None,
        assign=Binary(),
        engine=LocalEngine(threads=1),
        root=tmp_path / "x_pl",
        name="x_pl",
        config="",
        shard_size=3,
    )
    plan = [(r.video_id, r.frame_index) for shard in LabelStore(store.root).plan for r in shard]
    assert plan == [(volume, i) for volume in ("a", "b/x") for i in range(4)]
    stored = StoredLabels(root=str(store.root))
    assert stored.records()
    for record in stored.records():
        np.testing.assert_array_equal(stored.read(record).image, images.read(record).image)
        assert stored.read_target(record).shape == (30, 40)


def test_decompression_changes_no_pixel(root):
    before = [Volumes(root=str(root)).read(r).image for r in Volumes(root=str(root)).records()]
    for path in root.rglob("*.gz"):
        unzip(path)
    after = [Volumes(root=str(root)).read(r).image for r in Volumes(root=str(root)).records()]
    np.testing.assert_array_equal(before, after)


def test_a_missing_dataset_and_missing_nibabel_are_errors(tmp_path, root, monkeypatch):
    (tmp_path / "no/x.dcm").parent.mkdir()
    (tmp_path / "no/x.dcm").touch()
    with pytest.raises(
        DatasetNotFound,
        match=r"no volume under .*/no: found 1 entries \(x.dcm\), .*.nii and .nii.gz",
    ):
        Volumes(root=str(tmp_path / "no")).records()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(
        MissingPackage, match=r"needs nibabel, .*not installed: pip install nibabel"
    ):
        Volumes(root=str(root)).records()
