"""Parquet files of encoded images and labels. Their sizes are checked before they are read."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micronet_search.data import DataError

MAX_IMAGE = 8 * 2**20
"""Bytes of one encoded image."""
MAX_LABEL = 99_999

# Images are compressed already. A file whose images, and 256 bytes a row, take more than 64 MiB and
# 16 times its size was made to fill the memory: it can hold one long value a billion times.
_ALLOWANCE, _GROWTH, _ROW = 64 * 2**20, 16, 256
_BATCH = 16


class Shard(NamedTuple):
    """The rows of a file, as they are stored."""

    images: list[bytes]
    labels: NDArray[np.int64]


def read(file: Path) -> Shard:
    """Reads the images, still encoded, and their labels, or raises DataError."""
    try:
        if not file.is_file():
            raise DataError(f"{file} is no file, expected a parquet file")
        return _read(file)
    except DataError:
        raise
    except Exception as error:  # on damaged bytes pyarrow raises nearly anything
        raise DataError(f"{file} cannot be read ({error}), expected a parquet file") from error


def names(file: Path) -> tuple[str, ...]:
    """Returns the names of the classes, if Hugging Face's `datasets` left them in the schema."""
    from pyarrow import parquet

    metadata = parquet.read_schema(file).metadata or {}
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return ()
    fits = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if fits else ()


def _read(file: Path) -> Shard:
    from pyarrow import compute, parquet

    images: list[Any] = []
    held = 0
    with parquet.ParquetFile(file) as shard:
        image = _image_column(shard.schema_arrow, file)
        _check_claims(file, image)
        for batch in shard.iter_batches(_BATCH, columns=[image, "label"]):
            found = _bytes(batch.column(0)).to_pylist()
            lengths = [len(content or b"") for content in found]
            _check_image(max(lengths, default=0), file)
            held += sum(lengths) + _ROW * len(lengths)
            _check_size(held, file)
            images += found
        labels = shard.read(["label"]).column(0)
    if labels.null_count:
        raise DataError(f"{file} has {labels.null_count} rows without a label, expected integers")
    largest = compute.max(labels).as_py()
    if largest is not None and largest > MAX_LABEL:
        raise DataError(f"{file} has the label {largest}, expected at most {MAX_LABEL}")
    if None in images:
        row = images.index(None)
        raise DataError(f"{file}, row {row} has no image bytes, expected an encoded image")
    return Shard(images, np.asarray(labels.to_numpy(), np.int64))


def _image_column(schema: Any, file: Path) -> str:
    """Returns the path of the column of encoded images, once the types of both are checked."""
    from pyarrow import types

    image = next((name for name in ("img", "image") if name in schema.names), None)
    if image is None or "label" not in schema.names:
        columns = ", ".join(schema.names)
        raise DataError(f"{file} has the columns {columns}, expected label, and img or image")
    kind, path = schema.field(image).type, image
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, path = kind.field("bytes").type, f"{image}.bytes"
    fits = types.is_binary(kind) or types.is_large_binary(kind)
    expected = "bytes or a struct with them"
    if fits:
        image, kind, expected = "label", schema.field("label").type, "integers"
        fits = types.is_integer(kind)
    if not fits:
        raise DataError(f"{file} has {kind} in the column {image}, expected {expected}")
    return path


def _bytes(column: Any) -> Any:
    from pyarrow import types

    return column.flatten()[0] if types.is_struct(column.type) else column


def _check_claims(file: Path, image: str) -> None:
    """Checks what a file states of its size, and the images that it stores once for many rows."""
    from pyarrow import compute, parquet

    with parquet.ParquetFile(file, read_dictionary=[image]) as shard:
        groups = [shard.metadata.row_group(i) for i in range(shard.num_row_groups)]
        chunks = [[group.column(i) for i in range(group.num_columns)] for group in groups]
        columns = (image.split(".")[0], "label")
        read = [c for row in chunks for c in row if c.path_in_schema.split(".")[0] in columns]
        rows = max([shard.metadata.num_rows, *(chunk.num_values for chunk in read)])
        _check_size(sum(chunk.total_uncompressed_size for chunk in read) + _ROW * rows, file)
        for number, row in enumerate(chunks):
            (encodings,) = (chunk.encodings for chunk in row if chunk.path_in_schema == image)
            if any("DICTIONARY" in encoding for encoding in encodings):
                # a single row comes with the whole dictionary of its row group
                first = next(shard.iter_batches(1, row_groups=[number], columns=[image]), None)
                if first is not None:
                    lengths = compute.binary_length(_bytes(first.column(0)).dictionary)
                    _check_image(compute.max(lengths).as_py() or 0, file)


def _check_image(longest: int, file: Path) -> None:
    if longest > MAX_IMAGE:
        raise DataError(f"{file} has an image of {longest:,} bytes, expected at most {MAX_IMAGE:,}")


def _check_size(found: int, file: Path) -> None:
    size = file.stat().st_size
    most = _ALLOWANCE + _GROWTH * size
    if found > most:
        raise DataError(
            f"{file} has {size:,} bytes and holds {found:,} or more, expected at most {most:,}"
        )
