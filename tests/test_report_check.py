"""What `check` says of a space before anything is trained."""

import re
from pathlib import Path
from typing import Any

import pytest
from studies import cli, tiny, write

from micronet_search.config.files import load_sweep
from micronet_search.report import check as checking
from micronet_search.report.check import Sample

FIXED = {
    "candidate__network__stem__width": 4,
    "candidate__network__growth_rate": 4,
    "candidate__network__layers": [1, 1],
    "candidate__training__learning_rate": 0.01,
    "candidate__pruning__sparsity": 0.5,
    "candidate__quantization__weight_bits": 8,
}


def described(folder: Path, **changes: Any) -> list[str]:
    sweep = load_sweep(write(folder / "sweep.yaml", tiny(**changes)))
    return checking.describe(sweep, checking.sample(sweep))


def test_a_space_that_is_above_the_ceiling(tmp_path: Path) -> None:
    *_, last, warning = described(tmp_path, objectives__score__at_most=1e-6)
    screened, duplicates, impossible = map(int, re.findall(r"(\d+) (?:would|as)", last))
    assert screened + duplicates + impossible == 100
    assert warning.startswith("warning: all of them are above the ceiling of 1e-06")
    assert not any("warning" in line for line in described(tmp_path))


def test_a_fixed_candidate_that_is_above_the_ceiling(tmp_path: Path) -> None:
    (line,) = described(tmp_path, **FIXED)
    score = float(line.rsplit(" ", 1)[1])
    _, warning = described(tmp_path, **FIXED, objectives__score__at_most=score / 2)
    assert warning.startswith("warning: it is above the ceiling")
    assert "raise objectives.score.at_most" in warning


def test_a_candidate_is_told_from_a_sweep(finished: Path, tmp_path: Path) -> None:
    candidate = finished / "studies/tiny/trials/0000/candidate.yaml"
    error = cli("check", candidate, cwd=tmp_path).error
    assert error == (
        f"{candidate} is a candidate, expected a sweep; `micronet-search score {candidate}` says "
        "what it costs"
    )


def test_the_time_of_a_study(tmp_path: Path) -> None:
    write(tmp_path / "sweep.yaml", tiny(search__hours=0.5))
    done = cli("check", "sweep.yaml", "--time", cwd=tmp_path)
    assert done.code == 0, done
    epoch, trials, hours = done.out.splitlines()[-3:]
    # three of the fit, one of each technique
    assert re.fullmatch(
        r"an epoch of the candidate of the median score takes [\d.e-]+ s on (cpu|cuda); 5 epochs a "
        r"trial make \d+ s",
        epoch,
    )
    assert trials.startswith("3 trials take about ")
    assert hours == "search.hours ends the study after 0.5 hours"
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(("count", "place"), [(1, 0), (2, 0), (5, 2)])
def test_the_median_is_a_candidate(count: int, place: int) -> None:
    found: list[Any] = [(0.1 * i, f"candidate {i}") for i in range(count)]
    assert Sample(found).median == f"candidate {place}"
