"""Read videos with tracked boxes, mostly of words (SAMText, arXiv 2305.01443)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.boxes.boxed import make_sample
from alps.images.files.audit import SET_CLASSES, Audit, Occurrences, count_of
from alps.images.files.box_rows import read_counts
from alps.images.files.fields import check_classes
from alps.images.files.frames import VIDEO_SUFFIXES, list_frames, read_frame
from alps.images.files.ids import to_nfc
from alps.images.files.listing import contents, walk
from alps.images.files.read import SUFFIXES
from alps.images.video import bovtext, icdar_video
from alps.images.video import table as video_table
from alps.images.video.clip import TEXT, Clip, video_name
from alps.structures.boxes import Boxes, FrameAnnotations
from alps.structures.digest import digest
from alps.structures.findings import Finding
from alps.structures.masks import Masks
from alps.structures.palette import color_classes
from alps.structures.records import Category, ImageRecord, Sample

#: Parsers of annotation files by suffix. They return clips by video name. A file of one clip that
#: cannot be read raises `ImageError`, a file of all clips `LabelError`.
PARSERS: Mapping[str, Callable[[Path], dict[str, Clip]]] = {
    ".xml": icdar_video.parse,
    ".json": bovtext.parse,
    ".csv": video_table.parse,
    ".parquet": video_table.parse,
}


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """Summary of a clip; the boxes are not kept, because those of large datasets take gigabytes."""

    file: Path
    digests: Mapping[int, str]  # digests of the annotations, by frame index
    categories: frozenset[str]
    masks: bool  # whether any object has a ground-truth mask


class VideoBoxes:
    """Image set of the annotated frames of videos, including frames annotated as empty.

    A video is a file or a folder of frames, at any depth, with the name that its annotations state.
    Image ids are ``<video>/<frame>``, the frame with six digits, so that the frames of a video are
    consecutive.

    Args:
        root: folder of the dataset.
        videos: folder of the videos, relative to the root.
        annotations: name or glob pattern of the annotation files, such as ``*_GT.xml``, at any
            depth below the root. The suffix determines the format (`PARSERS`).
        split: split of all frames.
        classes: class names in the order of their ids. None: all names in the annotations, in
            alphabetical order.
        url: where to download the dataset, for the message if it is missing.
        name: name of the image set.

    Raises:
        ConfigError: ``classes`` is not a list of distinct names.
    """

    def __init__(
        self,
        *,
        root: str,
        videos: str = ".",
        annotations: str = "boxes.csv",
        split: str = "train",
        classes: Sequence[str] | None = None,
        url: str | None = None,
        name: str = "video",
    ) -> None:
        self.root = root
        self.videos = videos
        self.annotations = annotations
        self.split = split
        self.classes = check_classes(classes)
        self.url = url
        self.name = name
        self._cached: tuple[Path | None, dict[str, Clip]] = None, {}

    def records(self) -> list[ImageRecord]:
        """Return all annotated frames.

        A video with unreadable annotations is listed with its first frame; `read` raises the error.

        Raises:
            DatasetNotFound: there are no annotations, or none of the annotated videos exists.
            LabelError: an annotation file has an unknown suffix, a table cannot be read, or two
                videos match one name in the annotations.
        """
        records, classes = [], digest([*self._classes])
        for name, (video_id, path) in self._videos.items():
            path_of_video = Path(self.root, path)
            frames = _frames(path_of_video)
            for index, annotations_digest in self._summaries[name].digests.items():
                file = frames.get(index, path_of_video)
                records.append(
                    ImageRecord(
                        f"{video_id}/{index:06d}",
                        path if file == path_of_video else f"{path}/{file.name}",
                        self.split,
                        file.stat().st_size if file.is_file() else 0,
                        video_id,
                        index,
                        digest(classes, annotations_digest),
                    )
                )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read frame and boxes.

        Returns:
            The frame with its boxes.

        Raises:
            ImageError: one of the files cannot be read, or the video has no such frame.
            MissingPackage: the video is a file and PyAV is not installed.
        """
        file, frame = self._frame(record)
        pixels = read_frame(self.root, record)
        return make_sample(record, pixels, frame.annotations, self._classes, file, frame.problems)

    def findings(self) -> list[Finding]:
        """Return inconsistencies between videos and annotations; this reads all annotations."""
        audit = Audit(self._classes, SET_CLASSES)
        unreadable, root = Occurrences(), Path(self.root)
        for name, (video_id, _) in self._videos.items():
            file = self._summaries[name].file
            try:
                clip = self._parse(file)[name]
            except ImageError as error:
                unreadable.add(str(error).replace(f"{root}/", ""))
                continue
            for index, frame in clip.items():
                image_id = f"{video_id}/{index:06d}"
                audit.add(image_id, file.name, frame.annotations, frame.problems)
        missing = sorted(self._summaries.keys() - self._videos.keys())
        n = len(self._summaries)
        relations = [
            Finding(
                "unreadable_annotations",
                unreadable.count,
                f"the annotations of {count_of(unreadable.count, n, 'video')} cannot be read "
                f"{unreadable}",
                "repair or remove them; until then these videos are skipped",
            ),
            Finding(
                "missing_images",
                len(missing),
                f"{count_of(len(missing), n, 'annotated video')} are not under {self.videos}/ "
                f"(first: {', '.join(missing[:1])})",
                "add them, or set dataset.videos to their folder; until then they are skipped",
            ),
        ]
        findings = [finding for finding in relations if finding.count] + audit.findings()
        # A frame without boxes is annotated as empty.
        return [finding for finding in findings if finding.kind != "images_without_annotations"]

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes(self._classes)

    def _frame(self, record: ImageRecord) -> tuple[Path, FrameAnnotations]:
        """Return the annotation file of a frame, and the annotations of the frame."""
        name = next(name for name, (i, _) in self._videos.items() if i == record.video_id)
        file = self._summaries[name].file
        return file, self._parse(file)[name].get(record.frame_index or 0, FrameAnnotations())

    @cached_property
    def _summaries(self) -> dict[str, ClipSummary]:
        """Summaries of all annotated clips, by video name."""
        root = Path(self.root)
        paths = sorted(path for path, _ in walk(root)) if root.is_dir() else []
        files = [root / path for path in paths if PurePosixPath(path).match(self.annotations)]
        if not files:
            raise DatasetNotFound(
                f"no {self.annotations} under {root.absolute()}: found {contents(root)}; "
                + (f"download the dataset from {self.url}, or " if self.url else "")
                + "set dataset.root to its folder and dataset.annotations to its files"
            )
        summaries: dict[str, ClipSummary] = {}
        for file in tqdm(files, "listing frames", unit="file", delay=1):
            try:
                clips = self._parse(file)
            except ImageError:  # raised again when the first frame is read
                clips = {video_name(file): {0: FrameAnnotations()}}
            for name, clip in clips.items():
                digests = {i: frame.digest for i, frame in clip.items()}
                classes = {a.category for frame in clip.values() for a in frame.annotations}
                masks = any(a.counts for frame in clip.values() for a in frame.annotations)
                summary = ClipSummary(file, digests, frozenset(classes), masks)
                other = summaries.setdefault(name, summary)
                if other.file != file:
                    raise LabelError(
                        f"{other.file} and {file} annotate the same video {name}; remove one of "
                        "the files"
                    )
        return summaries

    @cached_property
    def _classes(self) -> Sequence[str]:
        """Class names: `classes` if given, else the names in the annotations, else only `TEXT`."""
        names = frozenset[str]().union(*(clip.categories for clip in self._summaries.values()))
        return self.classes or sorted(names) or [TEXT]

    @cached_property
    def _videos(self) -> dict[str, tuple[str, str]]:
        """Id and path (relative to the root) of each existing video, by its annotated name."""
        folder = Path(self.root, self.videos)
        ids_by_path = dict[str, str]()  # video id by path
        for file in (PurePosixPath(file) for file, _ in walk(folder)):
            if file.suffix.lower() in VIDEO_SUFFIXES:
                ids_by_path[str(file)] = str(file.with_suffix(""))
            elif file.suffix.lower() in SUFFIXES and file.parent.name:
                ids_by_path[str(file.parent)] = str(file.parent)
        videos, missing = dict[str, tuple[str, str]](), []
        for name in self._summaries:
            plain = to_nfc(name.replace("\\", "/"))
            matches = [
                path for path, i in ids_by_path.items() if plain in (to_nfc(path), to_nfc(i))
            ]
            matches = matches or [
                p for p, i in ids_by_path.items() if to_nfc(i).rpartition("/")[2] == plain
            ]
            if len(matches) > 1:
                raise LabelError(
                    f"the annotations of {name} match {' and '.join(sorted(matches)[:3])} under "
                    f"{folder}; set dataset.videos to the folder of the right videos"
                )
            if not matches:
                missing.append(name)
                continue
            video = ids_by_path[matches[0]], str(PurePosixPath(self.videos, matches[0]))
            if other := next((other for other in videos if videos[other] == video), None):
                raise LabelError(
                    f"{other} and {name} in the annotations are the same video {video[1]}; use one "
                    "name"
                )
            videos[name] = video
        if not videos:
            raise DatasetNotFound(
                f"none of the {len(missing)} annotated videos (first: {missing[0]}) is among the "
                f"{len(ids_by_path)} under {folder.absolute()} "
                f"({', '.join(sorted(ids_by_path)[:3])}); expected {missing[0]}.mp4 or a folder "
                f"{missing[0]}/ of frames, at any depth"
            )
        return videos

    def _parse(self, file: Path) -> dict[str, Clip]:
        """Return the clips in a file; the last file is cached, because frames are read in order."""
        if file != self._cached[0]:
            self._cached = file, _parser(file)(file)
        return self._cached[1]


def _parser(file: Path) -> Callable[[Path], dict[str, Clip]]:
    """Return the parser of a file; raise `LabelError` if its suffix is unknown."""
    if file.suffix.lower() not in PARSERS:
        raise LabelError(
            f"{file} has an unknown format: expected {' '.join(PARSERS)}; set "
            "dataset.annotations to the annotation files"
        )
    return PARSERS[file.suffix.lower()]


def _frames(folder: Path) -> dict[int, Path]:
    """Return the frames of a folder; {} if it is invalid, which `read` reports for each frame."""
    try:
        return list_frames(folder) if folder.is_dir() else {}
    except ImageError:
        return {}


class VideoMasks(VideoBoxes):
    """`VideoBoxes` with ground-truth masks, which only the table format provides."""

    @property
    def has_instances(self) -> bool:
        """Whether any object has a ground-truth mask."""
        return any(clip.masks for clip in self._summaries.values())

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """Read the ground-truth masks of the boxes that have one; log and skip invalid ones.

        Args:
            record: the frame.
            boxes: boxes returned by `read`, possibly a subset.
            size: (H, W) of the frame, px.

        Returns:
            The masks with their boxes.
        """
        file, frame = self._frame(record)
        return read_counts(frame.annotations, boxes, size, file)
