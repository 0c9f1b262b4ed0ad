"""Everything of one trial, as the files of a study say it."""

import csv
import shutil
from pathlib import Path

import pytest
import studies
from studies import cli

from micronet_search.report.show import headline, show
from micronet_search.report.view import read
from micronet_search.store.paths import Root


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_trial(finished: Path, tmp_path: Path) -> None:
    before = studies.snapshot(finished)
    done = cli("show", "tiny", 0, "--root", finished, cwd=tmp_path)
    assert done.code == 0, done
    assert studies.snapshot(finished) == before
    outcome = studies.outcomes(finished, "tiny")[0]
    assert f"accuracy {outcome.accuracy:.4f} on the validation split" in done.out
    assert f"{outcome.nonzeros:,} nonzeros, {outcome.macs:,} MACs" in done.out

    found, folder = rows(done.out), finished / "studies/tiny/trials/0000"
    frozen = studies.optuna_trials(finished, "tiny")[0]
    assert {row[0] for row in found if row} >= set(frozen.params)
    (growth,) = [row for row in found if row[:1] == ["network.growth_rate"]]
    assert growth[1] == str(frozen.params["network.growth_rate"])

    for stage, epochs in (("fit", 3), ("prune", 1), ("quantize", 1)):
        last = [row for row in outcome.curve if row.stage == stage][-1]
        (line,) = [row for row in found if row[:1] == [stage]]
        assert line[1:] == [str(epochs), f"{last.accuracy:.4f}", f"{outcome.seconds[stage]:.1f}"]

    stored = list(csv.DictReader((folder / "layers.csv").read_text().splitlines()))
    assert sum(int(row["macs"]) for row in stored) == outcome.macs
    for row in stored:
        if int(row["weights"]) or int(row["macs"]):
            (line,) = [one for one in found if one[:1] == [row["name"]]]
            assert line[-1] == f"{int(row['macs']):,}"
    for path in folder.iterdir():
        assert [path.name, f"{path.stat().st_size:,}"] in found


def test_how_a_trial_ended(finished: Path, tmp_path: Path) -> None:
    view = read(Root(finished), "tiny")
    best = view.survey.front[0]
    assert headline(view, best) == f"trial {best} of tiny: complete, on the front"
    strict = read(Root(finished), "tiny", at_least=1.0)
    assert headline(strict, best).endswith("complete, misses the goal for the accuracy")
    root = shutil.copytree(finished, tmp_path / "runs")
    (root / "studies/tiny/trials/0001/outcome.json").unlink()
    (root / "studies/tiny/optuna.journal").unlink()
    done = cli("show", "tiny", 1, "--root", root, cwd=tmp_path)
    assert "trial 1 of tiny: unfinished" in done.out
    assert "the choices cannot be read: found no" in done.out


def test_no_such_trial_and_damaged_layers(finished: Path, tmp_path: Path) -> None:
    done = cli("show", "tiny", 7, "--root", finished, cwd=tmp_path)
    assert done.error.startswith("no trial 7 in tiny, expected one of its 3 trials")
    root = shutil.copytree(finished, tmp_path / "runs")
    layers = root / "studies/tiny/trials/0000/layers.csv"
    for content in ("name,kind\na,conv\n", layers.read_text().replace(",conv,", ",x,y")):
        layers.write_text(content)
        with pytest.raises(ValueError, match=r"layers\.csv is damaged"):
            show(read(Root(root), "tiny"), 0)
