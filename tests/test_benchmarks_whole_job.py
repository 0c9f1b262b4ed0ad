"""The benchmark of the whole job judges all systems alike, and runs only what has no row yet."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies import script


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return script("whole_job")


def row(seed: int, system: str, area: float) -> dict[str, Any]:
    named = {"table": "digits", "seconds": 9, "seed": seed, "system": system}
    figures = {"hypervolume": area, "by the table": area / 2, "best score": 1e-4}
    return named | {"trials": 4, "feasible": 2, "different": 2} | figures


def test_trials_that_ended_in_time_are_judged_by_the_goals(benchmark: Any) -> None:
    goals = benchmark.sweep_of("digits", None, 0, "tool").objectives
    figures = [(90, 0.98, 2e-4), (95, 0.97, 1e-4), (99, 0.95, 1e-4), (100.1, 0.99, 5e-5)]
    found = [benchmark.Trial(*each, f"{number}") for number, each in enumerate(figures)]
    table = {"0": benchmark.Row(2e-4, 15, [0.96, 0.98]), "1": benchmark.Row(1e-4, 15, [0.95])}
    assert benchmark.judged(found, 100, goals, table) == {
        "trials": 3,
        "feasible": 2,
        "different": 2,
        # (0.97 - 0.96) * (4e-4 - 1e-4) + (0.98 - 0.97) * (4e-4 - 2e-4)
        "hypervolume": 5e-6,
        "by the table": 2e-6,  # (0.97 - 0.96) * (4e-4 - 2e-4): the other one is not feasible
        "best score": 1e-4,
    }
    nothing = dict.fromkeys(("trials", "feasible", "different", "hypervolume", "by the table"), 0)
    assert benchmark.judged([], 100, goals, {}) == nothing | {"best score": float("inf")}


def test_what_has_its_row_is_not_run_again(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "rows.csv")
    given = Namespace(table="digits", seeds=2, systems=["tool", "ray", "syne-tune"])
    given.syne_python = None
    everything = [(0, "tool"), (0, "ray"), (1, "tool"), (1, "ray")]
    assert benchmark.missing(given, 9) == everything
    rows = [row(0, "tool", 2e-6), row(0, "ray", 1e-6)]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    assert benchmark.missing(given, 9) == everything[2:]
    assert benchmark.missing(given, 10) == everything


def test_a_pairing_counts_where_both_have_run(benchmark: Any) -> None:
    areas = {"tool": (2e-6, 3e-6, 1e-6), "ray": (1e-6, 3e-6)}
    rows = [row(seed, name, area) for name in areas for seed, area in enumerate(areas[name])]
    ray = benchmark.summary(pd.DataFrame(rows)).splitlines()[-1]
    assert ray == "| ray | 4.0 | 2.0 | 2.0 | 0.0001 | 2: 1, 3 | 1 of 2 | 1: 0.5, 1.5 | 1 of 2 |"
