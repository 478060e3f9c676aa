import builtins
import multiprocessing
import random

import numpy as np
import pytest
from PIL import Image

from alps.errors import ImageError, MissingPackage
from alps.images.files.frames import VideoFile, _open, list_frames, read_frame
from alps.structures.records import ImageRecord
from tests.videos import draw_video, write_frames, write_video

N = 40


@pytest.fixture(scope="module")
def drawn():
    return draw_video(N).frames


@pytest.fixture(scope="module")
def video(drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write_video(path, drawn)
    return path


def record(path, index):
    return ImageRecord(f"a/{index:06d}", path.name, "train", 0, "a", index)


def uneven(n):
    """Milliseconds, as a phone writes them."""
    return np.cumsum(np.random.default_rng(0).integers(15, 90, n)).tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("closed.mp4", {}),
        ("uneven.mp4", {"times": uneven(N)}),
        # Groups that begin with frames which need the group before.
        ("open.mp4", {"x264-params": "open-gop=1:scenecut=0", "bf": "3", "times": uneven(N)}),
        ("open.mkv", {"x264-params": "open-gop=1:scenecut=0", "bf": "3", "times": uneven(N)}),
        ("one_keyframe.mp4", {"x264-params": "intra-refresh=1"}),
        ("short_groups.mp4", {"g": "2", "bf": "1"}),
        ("mpeg4.mp4", {"codec": "mpeg4"}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
    ],
)
def test_a_frame_does_not_depend_on_the_order_of_reading(drawn, tmp_path, name, options):
    path = tmp_path / name
    write_video(path, drawn, **options)
    forward, other = VideoFile(path), VideoFile(path)
    frames = [forward.read(i) for i in range(N)]
    assert len(forward) == len(other) == N
    few = drawn[:, ::4, ::4].astype(int)
    for i, image in enumerate(frames):
        assert np.abs(few - image[::4, ::4]).mean((1, 2, 3)).argmin() == i
    order = [*range(N), N - 1, 0]
    random.Random(0).shuffle(order)
    for i in order:
        np.testing.assert_array_equal(other.read(i), frames[i])


def test_sequential_reading_decodes_each_frame_once_and_seeks_use_keyframes(video, monkeypatch):
    file = VideoFile(video)
    decoded = []
    advance = file._advance
    monkeypatch.setattr(file, "_advance", lambda: decoded.append(file._next) or advance())
    for i in range(0, N, 3):
        file.read(i)
    assert decoded == list(range(N))
    decoded.clear()
    file.read(30)
    assert 24 <= decoded[0] <= 30
    assert decoded[-1] == 30


def test_a_frame_beyond_the_end_is_an_error(video):
    with pytest.raises(ImageError) as error:
        read_frame(video.parent, record(video, N))
    assert str(error.value) == (
        f"{video} has {N} frames, there is no frame {N} (counted from 0); its annotations "
        "refer to later frames"
    )
    assert read_frame(video.parent, record(video, N - 1)).image.shape == (120, 160, 3)


def test_a_truncated_video_keeps_its_frames_and_states_their_number(drawn, video, tmp_path):
    data = video.read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: len(data) * 6 // 10])
    file, whole = VideoFile(path), VideoFile(video)
    n = len(file)
    assert 10 < n < N
    with pytest.raises(ImageError, match=rf"a\.mp4 has {n} of {N} frames.*, there is no frame 39 "):
        file.read(39)
    with pytest.raises(ImageError, match="it is truncated, download it again"):
        file.read(n)
    for i in (n - 2, 0, n - 3):
        np.testing.assert_array_equal(file.read(i), whole.read(i))


def test_other_files_are_refused(drawn, tmp_path):
    for name, data in (("empty.mp4", b""), ("text.mp4", b"hello" * 100)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            ImageError, match=rf"cannot read .*{name}: .*it is not a video, or it is"
        ):
            VideoFile(tmp_path / name)
    write_video(tmp_path / "end.mp4", drawn, faststart=False)
    data = (tmp_path / "end.mp4").read_bytes()
    (tmp_path / "end.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="or it is truncated"):
        VideoFile(tmp_path / "end.mp4")
    with pytest.raises(ImageError, match="No such file"):
        VideoFile(tmp_path / "missing.mp4")


def test_rotation_metadata_is_applied(drawn, tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, drawn[:4])
    straight = VideoFile(path).read(3)
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track: 16.16, the last column 2.30

    def matrix(a, b, c, d):
        return np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()

    one = 1 << 16
    assert data[at : at + 36] == matrix(one, 0, 0, one)
    path.write_bytes(data[:at] + matrix(0, one, -one, 0) + data[at + 36 :])
    turned = VideoFile(path).read(3)  # to be shown turned clockwise
    np.testing.assert_array_equal(turned, np.rot90(straight, -1))


def read_in_child(root, index, answers):
    _open.cache_clear()  # frees what was inherited
    path = root / "a.mp4"
    answers.put((index, int(read_frame(root, record(path, index)).image.sum())))


def test_forked_processes_do_not_share_a_decoder(video):
    frames = [int(VideoFile(video).read(i).sum()) for i in (5, 25)]
    read_frame(video.parent, record(video, 0))
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    children = [
        fork.Process(target=read_in_child, args=(video.parent, i, answers), daemon=True)
        for i in (5, 25)
    ]
    for child in children:
        child.start()
    found = dict(answers.get(timeout=20) for _ in children)
    for child in children:
        child.join(20)
    assert [found[5], found[25]] == frames


def test_frames_of_a_folder_are_ordered_by_number(drawn, tmp_path):
    write_frames(tmp_path / "a", drawn[:12])
    (tmp_path / "a/notes.txt").write_text("")
    assert [f.name for _, f in sorted(list_frames(tmp_path / "a").items())][8:11] == [
        "9.png",
        "10.png",
        "11.png",
    ]
    write_frames(tmp_path / "b", drawn[:3], "v2_{:06d}.png", first=0)
    assert list_frames(tmp_path / "b")[2].name == "v2_000002.png"
    (tmp_path / "b/v2_000001.png").unlink()
    frames = list_frames(tmp_path / "b")
    assert sorted(frames) == [0, 2]
    read = read_frame(tmp_path, ImageRecord("b/000002", "b/v2_000002.png", frame_index=2)).image
    np.testing.assert_array_equal(read, drawn[2])
    with pytest.raises(ImageError) as error:
        read_frame(tmp_path, ImageRecord("b/000001", "b", frame_index=1))
    assert str(error.value) == (
        f"{tmp_path}/b has 2 frames, v2_000000.png to v2_000002.png; there is no frame 1 "
        "(counted from 0)"
    )


def test_frames_must_be_numbered(tmp_path):
    image = Image.new("RGB", (4, 4))
    for name in ("1.png", "cover.png"):
        image.save(tmp_path / name)
    with pytest.raises(ImageError, match=r"cover.png has no number; frames in a folder are"):
        list_frames(tmp_path)
    (tmp_path / "cover.png").rename(tmp_path / "01.png")
    with pytest.raises(ImageError, match=r"1.png has the number of 01.png"):
        list_frames(tmp_path)


def test_without_pyav_the_error_names_the_package(video, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match=r"reading it needs PyAV, .*pip install av"):
        VideoFile(video)
