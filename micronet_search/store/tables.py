"""Tables as text, one way for every CSV file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def to_csv(rows: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> str:
    """A table in CSV. Numbers are written in full, so that they are read back as they were.

    Args:
        rows: The same columns in all of them.
        columns: The head of the table where there are no rows.
    """
    import pandas as pd

    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return table.to_csv(index=False, lineterminator="\n", na_rep="nan")
