"""Parquet files of encoded images and labels, none of which is believed before it is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micronet_search.data.errors import DataError

Integers = NDArray[np.int64]

COLUMNS = ("img", "image")
MAX_IMAGE = 8 * 2**20
"""Bytes of one encoded image."""
MAX_LABEL = 99_999

# Images are compressed already. What grows beyond this when a file is read is made to fill the
# memory: a few kilobytes can hold one long value a billion times.
_ALLOWANCE, _GROWTH, _ROW = 64 * 2**20, 16, 256
_BATCH = 16


class Shard(NamedTuple):
    """The rows of a file, as they are stored."""

    images: list[bytes | None]
    labels: Integers


def read(file: Path) -> Shard:
    """The images, still encoded, and their labels.

    Raises:
        DataError: The file cannot be read, has other columns, or holds more than it should: its
            images and 256 bytes a row may be 64 MiB and 16 times the file, an image 8 MiB, a label
            99,999.
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
    """The names of the classes, which Hugging Face's `datasets` keeps beside the columns.

    Args:
        file: One that can be read.

    Returns:
        Nothing where there are none.
    """
    from pyarrow import parquet

    found = (parquet.read_schema(file).metadata or {}).get(b"huggingface", b"")
    try:
        tree = json.loads(found)
    except (ValueError, RecursionError):
        return ()
    match tree:
        case {"info": {"features": {"label": {"names": [*found]}}}}:
            return tuple(found) if all(isinstance(name, str) for name in found) else ()
    return ()


def _read(file: Path) -> Shard:
    from pyarrow import chunked_array, parquet

    size = file.stat().st_size
    with parquet.ParquetFile(file) as shard:
        image = _image_column(shard.schema_arrow, file)
        _check_claims(shard.metadata, (image, "label"), file, size)
        columns = [_leaf(shard.schema_arrow, image), "label"]
    with parquet.ParquetFile(file, read_dictionary=columns[:1]) as shard:
        _check_dictionaries(shard, columns[0], file)
    images: list[bytes | None] = []
    labels = []
    held = 0
    with parquet.ParquetFile(file) as shard:
        for batch in shard.iter_batches(_BATCH, columns=columns):
            column, label = batch.columns
            found = _bytes(column).to_pylist()
            lengths = [len(content or b"") for content in found]
            _check_image(max(lengths, default=0), file)
            held += sum(lengths) + _ROW * len(lengths)
            _check_size(held, file, size)
            images += found
            labels.append(label)
        kind = shard.schema_arrow.field("label").type
    return Shard(images, _labels(chunked_array(labels, kind), file))


def _image_column(schema: Any, file: Path) -> str:
    from pyarrow import types

    image = next((name for name in COLUMNS if name in schema.names), None)
    if image is None or "label" not in schema.names:
        raise DataError(
            f"{file} has the columns {', '.join(schema.names)}, expected label, and img or image"
        )
    kind = schema.field(image).type
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise DataError(
            f"{file} has {kind} in the column {image}, expected bytes or a struct with them"
        )
    kind = schema.field("label").type
    if not types.is_integer(kind):
        raise DataError(f"{file} has {kind} in the column label, expected integers")
    return image


def _leaf(schema: Any, image: str) -> str:
    from pyarrow import types

    return f"{image}.bytes" if types.is_struct(schema.field(image).type) else image


def _bytes(column: Any) -> Any:
    from pyarrow import types

    return column.flatten()[0] if types.is_struct(column.type) else column


def _check_claims(metadata: Any, names: tuple[str, ...], file: Path, size: int) -> None:
    """Refuses a file for what it says of itself, before any of it is read."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    read = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in names]
    rows = max([metadata.num_rows, *(chunk.num_values for chunk in read)])
    _check_size(sum(c.total_uncompressed_size for c in read) + _ROW * rows, file, size)


def _check_dictionaries(shard: Any, column: str, file: Path) -> None:
    """Refuses values that are stored once and would be repeated at will."""
    from pyarrow import compute

    for group in range(shard.num_row_groups):
        chunks = map(shard.metadata.row_group(group).column, range(shard.metadata.num_columns))
        (encodings,) = (chunk.encodings for chunk in chunks if chunk.path_in_schema == column)
        if not any("DICTIONARY" in encoding for encoding in encodings):
            continue
        for batch in shard.iter_batches(1, row_groups=[group], columns=[column]):
            lengths = compute.binary_length(_bytes(batch.column(0)).dictionary)
            _check_image(compute.max(lengths).as_py() or 0, file)
            break


def _check_image(longest: int, file: Path) -> None:
    if longest > MAX_IMAGE:
        raise DataError(f"{file} has an image of {longest:,} bytes, expected at most {MAX_IMAGE:,}")


def _check_size(found: int, file: Path, size: int) -> None:
    most = _ALLOWANCE + _GROWTH * size
    if found > most:
        raise DataError(
            f"{file} has {size:,} bytes and holds {found:,} or more, expected at most {most:,}"
        )


def _labels(column: Any, file: Path) -> Integers:
    from pyarrow import compute

    if column.null_count:
        raise DataError(f"{file} has {column.null_count} rows without a label, expected integers")
    largest = compute.max(column).as_py()
    if largest is not None and largest > MAX_LABEL:
        raise DataError(f"{file} has the label {largest}, expected at most {MAX_LABEL}")
    return np.asarray(column.to_numpy(), np.int64)
