"""Read tables with one row per box (CSV or Parquet), for still images and for videos."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import compute, csv, parquet

from alps.errors import LabelError
from alps.images.files.coco_masks import read_masks
from alps.images.files.limits import LARGEST_OF_ALL, check_bytes
from alps.images.files.text import whole
from alps.images.files.words import numbers, parse_switch
from alps.structures.boxes import Annotation, Boxes
from alps.structures.masks import Masks

logger = logging.getLogger(__name__)

#: Corner columns; the first four define a horizontal box if the others are missing or empty.
CORNERS = ("x0", "y0", "x1", "y1", "x2", "y2", "x3", "y3")
COLUMNS = (
    *(*CORNERS, "image", "video", "frame", "track"),
    *("category", "ignore", "score", "text", "counts"),
)
#: Maximum number of rows; Open Images, the largest published table, has 15 million boxes.
ROWS = 20_000_000
#: A Parquet file with more rows than this must have at least one byte per row, since boxes differ.
FEW = 100_000
Row = Mapping[str, str]


def read_rows(path: Path, names: Sequence[str]) -> list[Row]:
    """Read a table as rows of strings.

    CSV rows with a wrong number of columns are logged and skipped.

    Args:
        path: a UTF-8 CSV file with a header, or a Parquet file. Whitespace around column names and
            values is stripped.
        names: required columns in addition to the first four corners.

    Returns:
        One mapping from column name to value per row, restricted to `COLUMNS`.

    Raises:
        LabelError: the file cannot be read, is too large, or lacks or repeats a column.
    """
    try:
        check_bytes(path, LARGEST_OF_ALL)
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
        table = table.rename_columns([name.strip() for name in table.column_names])
        found = table.column_names
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:500]
        if isinstance(error, UnicodeError) or "invalid UTF8" in reason:
            reason = f"it is not in UTF-8 ({reason}); save it as UTF-8 (spreadsheets: CSV UTF-8)"
        raise LabelError(f"cannot read {path}: {reason}") from error
    if twice := sorted({n for n in COLUMNS if found.count(n) > 1}):
        raise LabelError(f"{path} has several columns called {' and '.join(twice)}, expected one")
    needed = [*names, *CORNERS[:4]]
    if missing := [name for name in needed if name not in found]:
        raise LabelError(
            f"{path} has no {' and no '.join(missing)}: its columns are "
            f"{' '.join(map(repr, found))[:500]}, "
            f"expected {' '.join(needed)}, for rotated boxes "
            f"{' '.join(CORNERS[4:])}, too; name the columns so"
        )
    known = [name for name in COLUMNS if name in found]
    columns = [
        [value.strip() for value in table[name].cast(pa.string()).fill_null("").to_pylist()]
        for name in known
    ]
    return [dict(zip(known, row, strict=True)) for row in zip(*columns, strict=True)]


def row_to_annotation(row: Row, where: str, category: str) -> Annotation | str:
    """Convert a row to an annotation, or return a message that says what is wrong with it.

    Args:
        row: a row from `read_rows`.
        where: location of the row, for messages.
        category: class name if the table has no such column.

    Returns:
        The annotation, or an error message.
    """
    track, switch = row.get("track", ""), row.get("ignore", "")
    if track and whole(track) is None:
        return f"{where}: track {track!r}, expected a whole number"
    if (ignore := parse_switch(switch)) is None:
        return f"{where}: ignore {switch!r}, expected 0 or 1"
    rotated = any(row.get(name) for name in CORNERS[4:])
    [score] = numbers([row.get("score", "")])
    return Annotation(
        where,
        row.get("category", category),
        numbers([row.get(name, "") for name in CORNERS[: 8 if rotated else 4]]),
        ignore=ignore,
        score=score if row.get("score") else None,
        track_id=whole(track),
        text=row.get("text") or None,
        counts=row.get("counts") or None,
    )


def read_counts(
    annotations: Sequence[Annotation], boxes: Boxes, size: tuple[int, int], path: Path
) -> Masks:
    """Read the ground-truth masks in the column ``counts``, for the boxes that have one.

    Invalid masks are logged and skipped.

    Args:
        annotations: all annotations of the image.
        boxes: boxes made from these annotations, possibly a subset; ``object_id`` indexes them.
        size: (H, W) of the image, px.
        path: the table, for messages.

    Returns:
        Masks with their boxes.
    """
    own = [annotations[i] for i in boxes.object_id]
    shapes = [(f"{path.name} {a.where}", a.counts and {"counts": a.counts}) for a in own]
    return read_masks(shapes, boxes, size)


def _read_parquet(path: Path) -> pa.Table:
    """Read a Parquet table, checking rows and text sizes before memory is allocated for them.

    Text columns are read as dictionaries, so a value repeated a million times is stored once.
    """
    texts = [field.name for field in parquet.read_schema(path) if _is_text(field.type)]
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        said = file.metadata
        parts = [said.row_group(i).total_byte_size for i in range(said.num_row_groups)]
        _check_extent(said.num_rows, sum(parts), min(ROWS, max(FEW, path.stat().st_size)))
        table = file.read()
    words = [
        compute.sum(compute.take(compute.binary_length(chunk.dictionary), chunk.indices)).as_py()
        for column in table.columns
        if pa.types.is_dictionary(column.type)
        for chunk in column.chunks
    ]
    _check_extent(len(table), sum(n or 0 for n in words), ROWS)
    return table


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a column type is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_extent(rows: int, size: int, limit: int) -> None:
    """Raise `OSError` if a table has more rows than ``limit``, or too many bytes."""
    if rows > limit or size > LARGEST_OF_ALL:
        raise OSError(
            errno.EFBIG,
            f"it unpacks to {rows} rows and {size} bytes, the limits here are {limit} and "
            f"{LARGEST_OF_ALL}; look whether it is what it should be, or split it",
        )


def _read_csv(path: Path) -> pa.Table:
    """Read the known columns of a CSV file as text; malformed rows are logged and skipped."""
    bad: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    # The parser reports line numbers only when it is single-threaded.
    options = csv.ReadOptions(use_threads=False)
    skip = csv.ParseOptions(invalid_row_handler=lambda _: "skip")
    with csv.open_csv(path, options, skip) as file:
        names = [name for name in file.schema.names if name.strip() in COLUMNS]
    table = csv.read_csv(
        path,
        read_options=options,
        parse_options=csv.ParseOptions(invalid_row_handler=note),
        # Do not infer types from the first rows, and do not read "NA" as a missing value.
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    _check_extent(len(table), table.nbytes, ROWS)
    if bad:
        first = bad[0]
        logger.warning(
            "left out %d of %d rows of %s: they do not have %d columns (first: line %d has %d)",
            len(bad),
            len(bad) + len(table),
            path,
            first.expected_columns,
            first.number,
            first.actual_columns,
        )
    return table
