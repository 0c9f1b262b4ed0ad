"""Parquet files of encoded images and labels. Their sizes are checked before they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micronet_search.data import DataError

COLUMNS = ("img", "image")
MAX_IMAGE = 8 * 2**20
"""Bytes of one encoded image."""
MAX_LABEL = 99_999

# Images are compressed already. A file that grows beyond this when it is read was made to fill the
# memory: a few kilobytes can hold one long value a billion times.
_ALLOWANCE, _GROWTH, _ROW = 64 * 2**20, 16, 256
_BATCH = 16


class Shard(NamedTuple):
    """The rows of a file, as they are stored."""

    images: list[bytes]
    labels: NDArray[np.int64]


def read(file: Path) -> Shard:
    """Reads the images, still encoded, and their labels.

    Raises:
        DataError: The file cannot be read, lacks columns, images or labels, or is too large. The
            images and 256 bytes a row may take 64 MiB and 16 times the size of the file, an image
            8 MiB. A label may be 99,999 at most.
    """
    try:
        if not file.is_file():
            raise DataError(f"{file} is no file, expected a parquet file")
        return _read(file)
    except DataError:
        raise
    except Exception as error:  # on damaged bytes pyarrow raises nearly anything
        raise DataError(f"{file} cannot be read ({error}), expected a parquet file") from error


def names(file: Path) -> tuple[str, ...]:
    """Returns the names of the classes, as Hugging Face's `datasets` stores them in the schema.

    Args:
        file: A parquet file that can be read.

    Returns:
        The names in the order of the labels, or nothing where the file does not have them.
    """
    from pyarrow import parquet

    metadata = parquet.read_schema(file).metadata or {}
    try:
        tree = json.loads(metadata.get(b"huggingface", b""))
    except (ValueError, RecursionError):
        return ()
    match tree:
        case {"info": {"features": {"label": {"names": [*found]}}}}:
            return tuple(found) if all(isinstance(name, str) for name in found) else ()
    return ()


def _read(file: Path) -> Shard:
    from pyarrow import chunked_array, parquet

    images: list[Any] = []
    labels = []
    held, size = 0, file.stat().st_size
    with parquet.ParquetFile(file) as shard:
        columns = _columns(shard.schema_arrow, file)
        _check_claims(shard.metadata, columns, file, size)
        _check_dictionaries(file, columns[0])
        for batch in shard.iter_batches(_BATCH, columns=columns):
            found = _bytes(batch.column(0)).to_pylist()
            lengths = [len(content or b"") for content in found]
            _check_image(max(lengths, default=0), file)
            held += sum(lengths) + _ROW * len(lengths)
            _check_size(held, file, size)
            images += found
            labels.append(batch.column(1))
        kind = shard.schema_arrow.field("label").type
    checked = _labels(chunked_array(labels, kind), file)
    if None in images:
        row = images.index(None)
        raise DataError(f"{file}, row {row} has no image bytes, expected an encoded image")
    return Shard(images, checked)


def _columns(schema: Any, file: Path) -> list[str]:
    """Returns the paths of the columns of encoded images and of labels."""
    from pyarrow import types

    image = next((name for name in COLUMNS if name in schema.names), None)
    if image is None or "label" not in schema.names:
        raise DataError(
            f"{file} has the columns {', '.join(schema.names)}, expected label, and img or image"
        )
    kind, path = schema.field(image).type, image
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, path = kind.field("bytes").type, f"{image}.bytes"
    if not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise DataError(
            f"{file} has {kind} in the column {image}, expected bytes or a struct with them"
        )
    kind = schema.field("label").type
    if not types.is_integer(kind):
        raise DataError(f"{file} has {kind} in the column label, expected integers")
    return [path, "label"]


def _bytes(column: Any) -> Any:
    from pyarrow import types

    return column.flatten()[0] if types.is_struct(column.type) else column


def _check_claims(metadata: Any, columns: list[str], file: Path, size: int) -> None:
    """Checks the sizes that a file states for its columns, before any of it is read."""
    names = {path.split(".")[0] for path in columns}
    row_groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = [group.column(i) for group in row_groups for i in range(group.num_columns)]
    read = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in names]
    rows = max([metadata.num_rows, *(chunk.num_values for chunk in read)])
    _check_size(sum(chunk.total_uncompressed_size for chunk in read) + _ROW * rows, file, size)


def _check_dictionaries(file: Path, column: str) -> None:
    """Checks the values that are stored once for many rows."""
    from pyarrow import compute, parquet

    with parquet.ParquetFile(file, read_dictionary=[column]) as shard:
        for number in range(shard.num_row_groups):
            row_group = shard.metadata.row_group(number)
            chunks = map(row_group.column, range(row_group.num_columns))
            (encodings,) = (chunk.encodings for chunk in chunks if chunk.path_in_schema == column)
            if any("DICTIONARY" in encoding for encoding in encodings):
                # a single row comes with the whole dictionary of its row group
                row = next(shard.iter_batches(1, row_groups=[number], columns=[column]), None)
                if row is not None:
                    lengths = compute.binary_length(_bytes(row.column(0)).dictionary)
                    _check_image(compute.max(lengths).as_py() or 0, file)


def _check_image(longest: int, file: Path) -> None:
    if longest > MAX_IMAGE:
        raise DataError(f"{file} has an image of {longest:,} bytes, expected at most {MAX_IMAGE:,}")


def _check_size(found: int, file: Path, size: int) -> None:
    most = _ALLOWANCE + _GROWTH * size
    if found > most:
        raise DataError(
            f"{file} has {size:,} bytes and holds {found:,} or more, expected at most {most:,}"
        )


def _labels(column: Any, file: Path) -> NDArray[np.int64]:
    from pyarrow import compute

    if column.null_count:
        raise DataError(f"{file} has {column.null_count} rows without a label, expected integers")
    largest = compute.max(column).as_py()
    if largest is not None and largest > MAX_LABEL:
        raise DataError(f"{file} has the label {largest}, expected at most {MAX_LABEL}")
    return np.asarray(column.to_numpy(), np.int64)
