"""A goal for the latency, and the figures of an exported network in MLflow."""

import json
from pathlib import Path

import pytest
from studies import cli, read, tiny, write

GOAL = 1e-6  # milliseconds, which nothing reaches


def test_a_latency_that_is_missed_and_the_figures_of_an_export(tmp_path: Path, runs: Path) -> None:
    tree = tiny(search__trials=1, objectives__latency={"at_most": GOAL})
    sweep = write(tmp_path / "sweep.yaml", tree)
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "tiny")
    (outcome,), (trial,), run = left.outcomes.values(), left.optuna, left.children[0]
    assert outcome.latency_ms is not None
    shown = f"{outcome.latency_ms:.3f}"
    assert f", latency {shown} ms\n" in done.out + done.err
    status = cli("status", "tiny", "--root", runs, cwd=tmp_path).out
    assert "latency (ms)" in status
    assert f" {shown} " in status
    assert trial.constraints["latency"] == pytest.approx(outcome.latency_ms / GOAL - 1)
    assert run.tags["feasible"] == "false"
    assert list(run.metrics["latency_ms"].values()) == [outcome.latency_ms]
    error = cli("front", "tiny", "--root", runs, cwd=tmp_path).error
    assert error.endswith("and imt score <= 0.01 and latency <= 1e-06 ms")
    done = cli("export", "tiny", "--trial", 0, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert not done.err
    file = left.root.study("tiny").trial(0).runtime
    figures = json.loads(file.read_text())["figures"]
    assert figures["onnx_bytes"] == (tmp_path / "exports/tiny/0000/model.onnx").stat().st_size
    metrics = read(runs, "tiny").children[0].metrics
    figures = {n if n == "latency_ms" else f"runtime/{n}": v for n, v in figures.items()}
    figures["latency_ms"] = outcome.latency_ms  # what it was judged by
    assert {name: metrics[name][0] for name in figures} == figures
    file.write_text("{}")
    error = cli("sync", "tiny", "--root", runs, cwd=tmp_path).error
    assert error.startswith(f"{file} is damaged, expected figures by their names")
