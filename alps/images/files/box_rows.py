"""Read tables with one row per box (CSV or Parquet), for still images and videos."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import compute, csv, parquet

from alps.errors import LabelError
from alps.images.files.coco_masks import read_masks
from alps.images.files.fields import parse_flag, parse_numbers
from alps.images.files.limits import MAX_DATASET_BYTES, check_bytes
from alps.images.files.text import parse_integer
from alps.structures.boxes import Annotation, Boxes
from alps.structures.masks import Masks

logger = logging.getLogger(__name__)

#: Columns with corners; if only the first four are present and filled, the box is horizontal.
CORNERS = ("x0", "y0", "x1", "y1", "x2", "y2", "x3", "y3")
COLUMNS = (
    *(*CORNERS, "image", "video", "frame", "track"),
    *("category", "ignore", "score", "text", "counts"),
)
#: Maximum number of rows; Open Images, the largest published table, has 15 million boxes.
MAX_ROWS = 20_000_000
#: A Parquet file with more rows than this must have at least one byte per row: rows differ, so a
#: higher compression is implausible.
SMALL_TABLE_ROWS = 100_000
Row = Mapping[str, str]


def read_rows(path: Path, required: Sequence[str]) -> list[Row]:
    """Read a table as rows of strings.

    CSV rows with a wrong number of columns are logged and skipped.

    Args:
        path: a UTF-8 CSV file with a header, or a Parquet file. Whitespace around column names and
            values is stripped.
        required: required columns in addition to the first four corners.

    Returns:
        One mapping from column name to value per row, restricted to `COLUMNS`.

    Raises:
        LabelError: the file cannot be read, is too large, or lacks or repeats a column.
    """
    try:
        check_bytes(path, MAX_DATASET_BYTES)
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
        table = table.rename_columns([name.strip() for name in table.column_names])
        names = table.column_names
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:500]
        if isinstance(error, UnicodeError) or "invalid UTF8" in reason:
            reason = f"it is not UTF-8 ({reason}); save it as UTF-8 (in spreadsheets: CSV UTF-8)"
        raise LabelError(f"cannot read {path}: {reason}") from error
    if repeated := sorted({n for n in COLUMNS if names.count(n) > 1}):
        raise LabelError(f"{path} has several columns named {' and '.join(repeated)}, expected one")
    expected = [*required, *CORNERS[:4]]
    if missing := [name for name in expected if name not in names]:
        raise LabelError(
            f"{path} has no {' and no '.join(missing)}: its columns are "
            f"{' '.join(map(repr, names))[:500]}, "
            f"expected {' '.join(expected)}, and for rotated boxes "
            f"{' '.join(CORNERS[4:])}; rename the columns"
        )
    columns_used = [name for name in COLUMNS if name in names]
    columns = [
        [value.strip() for value in table[name].cast(pa.string()).fill_null("").to_pylist()]
        for name in columns_used
    ]
    return [dict(zip(columns_used, row, strict=True)) for row in zip(*columns, strict=True)]


def row_to_annotation(row: Row, where: str, category: str) -> Annotation | str:
    """Convert a row to an annotation, or return a message if it is invalid.

    Args:
        row: a row from `read_rows`.
        where: location of the row, for messages.
        category: class name if the table has no such column.

    Returns:
        The annotation, or an error message.
    """
    track, flag = row.get("track", ""), row.get("ignore", "")
    if track and parse_integer(track) is None:
        return f"{where}: track {track!r}, expected an integer"
    if (ignore := parse_flag(flag)) is None:
        return f"{where}: ignore {flag!r}, expected 0 or 1"
    rotated = any(row.get(name) for name in CORNERS[4:])
    [score] = parse_numbers([row.get("score", "")])
    return Annotation(
        where,
        row.get("category", category),
        parse_numbers([row.get(name, "") for name in CORNERS[: 8 if rotated else 4]]),
        ignore=ignore,
        score=score if row.get("score") else None,
        track_id=parse_integer(track),
        text=row.get("text") or None,
        counts=row.get("counts") or None,
    )


def read_counts(
    annotations: Sequence[Annotation], boxes: Boxes, size: tuple[int, int], path: Path
) -> Masks:
    """Read the ground-truth masks of the boxes that have one, from the column ``counts``.

    Invalid masks are logged and skipped.

    Args:
        annotations: all annotations of the image.
        boxes: boxes made from ``annotations``, possibly a subset; ``object_id`` is the index of
            their annotation.
        size: (H, W) of the image, px.
        path: the table, for messages.

    Returns:
        Masks with their boxes.
    """
    selected = [annotations[i] for i in boxes.object_id]
    shapes = [(f"{path.name} {a.where}", a.counts and {"counts": a.counts}) for a in selected]
    return read_masks(shapes, boxes, size)


def _read_parquet(path: Path) -> pa.Table:
    """Read a Parquet table, after checking the number of rows and the size of the text.

    Text columns are read as dictionaries, which store a repeated value only once.

    Returns:
        The table.

    Raises:
        OSError: the table has too many rows or bytes.
    """
    texts = [field.name for field in parquet.read_schema(path) if _is_text(field.type)]
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        metadata = file.metadata
        parts = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        _check_extent(
            metadata.num_rows, sum(parts), min(MAX_ROWS, max(SMALL_TABLE_ROWS, path.stat().st_size))
        )
        table = file.read()
    text_sizes = [
        compute.sum(compute.take(compute.binary_length(chunk.dictionary), chunk.indices)).as_py()
        for column in table.columns
        if pa.types.is_dictionary(column.type)
        for chunk in column.chunks
    ]
    _check_extent(len(table), sum(n or 0 for n in text_sizes), MAX_ROWS)
    return table


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a column type is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_extent(rows: int, size: int, limit: int) -> None:
    """Raise `OSError` if a table has more rows than ``limit``, or too many bytes."""
    if rows > limit or size > MAX_DATASET_BYTES:
        raise OSError(
            errno.EFBIG,
            f"it unpacks to {rows} rows and {size} bytes, the limits are {limit} and "
            f"{MAX_DATASET_BYTES}; check that it is the right file, or split it",
        )


def _read_csv(path: Path) -> pa.Table:
    """Read the known columns of a CSV file as text; malformed rows are logged and skipped."""
    malformed: list[csv.InvalidRow] = []

    def skip_row(row: csv.InvalidRow) -> str:
        malformed.append(row)
        return "skip"

    # The parser reports line numbers only when it is single-threaded.
    options = csv.ReadOptions(use_threads=False)
    skip = csv.ParseOptions(invalid_row_handler=lambda _: "skip")
    with csv.open_csv(path, options, skip) as file:
        known_names = [name for name in file.schema.names if name.strip() in COLUMNS]
    table = csv.read_csv(
        path,
        read_options=options,
        parse_options=csv.ParseOptions(invalid_row_handler=skip_row),
        # Do not infer types from the first rows, and do not read "NA" as a missing value.
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(known_names, pa.string())),
    )
    _check_extent(len(table), table.nbytes, MAX_ROWS)
    if malformed:
        first = malformed[0]
        logger.warning(
            "skipped %d of %d rows of %s: expected %d columns (first: line %d has %d)",
            len(malformed),
            len(malformed) + len(table),
            path,
            first.expected_columns,
            first.number,
            first.actual_columns,
        )
    return table
