"""Files that are whole or absent, whatever happens while they are written."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from micronet_search.config.loading import read_bytes

MAX_JSON = 64 * 2**20  # bytes; a curve of 10,000 epochs takes less than 1 %


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Replaces a file's content in one step, so that readers find the old file or the new one.

    Folders that are missing are created. If the file cannot be written, for example because the
    disk is full, the old one stays as it was. Only the owner may read a private file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two writers apart, and a killed writer leaves one such file at most.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The folder's entries must be on the disk too, to survive a power cut.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, content: str, private: bool = False) -> None:
    """Writes a text in UTF-8, in one step like `write_bytes`."""
    write_bytes(path, content.encode(), private)


def write_json(path: Path, tree: Any) -> None:
    """Writes plain values as JSON, in one step; numbers may be `NaN` and `Infinity`."""
    write_text(path, json.dumps(tree, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads a file that `write_json` wrote; a damaged or huge one is a ValueError."""
    content = read_bytes(path, MAX_JSON)
    if len(content) > MAX_JSON:
        raise ValueError(f"{path} is larger than {MAX_JSON // 2**20} MiB, expected a trial's JSON")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, expected JSON: {error}") from None


def to_csv(rows: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> str:
    """Returns rows as CSV, with every digit; without rows, the names of the columns alone."""
    import pandas as pd

    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return table.to_csv(index=False, lineterminator="\n", na_rep="nan")
