from __future__ import annotations

import csv
import io
import math

import numpy as np

from micronet_search.store.tables import to_csv


def test_what_is_written_is_read_back_as_it_was() -> None:
    """As text that any program reads: neither digits nor columns are lost."""
    generator = np.random.default_rng(0)
    values = [float(value) for value in 10.0 ** generator.uniform(-300, 300, 1000)]
    rows = [
        {"number": i, "value": value, "name": f'a "{i}", b', "large": 2**53 + i}
        for i, value in enumerate([0.1, 1 / 3, 1e-5, 5e-324, -math.inf, *values])
    ]
    found = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [list(row) for row in found] == [list(row) for row in rows]
    read = [
        {
            "number": int(row["number"]),
            "value": float(row["value"]),
            "name": row["name"],
            "large": int(row["large"]),
        }
        for row in found
    ]
    assert read == rows


def test_a_loss_that_is_no_number_stands_as_such() -> None:
    assert to_csv([{"epoch": 1, "loss": math.nan}]) == "epoch,loss\n1,nan\n"


def test_a_table_without_rows_has_its_head() -> None:
    assert to_csv([], ["trial", "score"]) == "trial,score\n"
