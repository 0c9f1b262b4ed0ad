from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from micronet_search.config.files import dump_yaml, load_sweep
from micronet_search.config.loading import ConfigError
from micronet_search.config.search import EarlyStopping

SWEEP = """\
name: a
dataset: {name: digits}
objectives: {accuracy: {at_least: 0.9}, score: {at_most: 0.1}}
candidate:
  network: {family: resnet, stem: {width: 8}, widths: [8], layers: [1]}
  training: {epochs: 9, learning_rate: {low: 1e-3, high: 1e-2}}
search: {trials: 9, early_stopping: %s}
"""


def load(folder: Path, text: str) -> EarlyStopping:
    path = folder / "a.yaml"
    path.write_text(SWEEP % text)
    return load_sweep(path).search.early_stopping


@pytest.mark.parametrize(
    ("text", "rule", "written"),
    [
        ("off", (), "off"),
        ("[]", (), "off"),
        ("{rule: off}", (), "off"),
        ("{after: 30}", (), "off"),
        ("asha", ("asha",), "asha"),
        ("[feasibility]", ("feasibility",), "feasibility"),
        ("{rule: feasibility}", ("feasibility",), "feasibility"),
        ("{rule: [asha]}", ("asha",), "asha"),
        ("[asha, feasibility]", ("asha", "feasibility"), ["asha", "feasibility"]),
        ("[feasibility, asha]", ("feasibility", "asha"), ["feasibility", "asha"]),
        ("dominated", ("dominated",), "dominated"),
    ],
)
def test_rules_and_how_they_are_written(
    tmp_path: Path, text: str, rule: tuple[str, ...], written: str | list[str]
) -> None:
    early = load(tmp_path, text)
    assert early.rule == rule
    assert early.model_dump(mode="json")["rule"] == written

    sweep = load_sweep(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(dump_yaml(sweep.dump()))
    assert load_sweep(tmp_path / "a.yaml") == sweep


def test_options(tmp_path: Path) -> None:
    text = "{rule: feasibility, first_rung: 2, reduction: 4, confidence: 0.9, after: 9}"
    early = load(tmp_path, text)
    assert (early.first_rung, early.reduction) == (2, 4)
    assert (early.confidence, early.after) == (0.9, 9)


@pytest.mark.parametrize(
    ("confidence", "needed"), [(0.5, 1), (0.75, 3), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
@pytest.mark.parametrize("rule", ["feasibility", "dominated"])
def test_after_that_is_too_few_for_the_confidence(
    rule: str, confidence: float, needed: int
) -> None:
    """n complete trials bound a share of 1 / (n + 1) of the trials at best."""
    options = {"rule": rule, "confidence": confidence}
    assert EarlyStopping.model_validate({**options, "after": needed}).after == needed
    if needed > 1:
        with pytest.raises(ValidationError, match=f"expected at least {needed} complete trials"):
            EarlyStopping.model_validate({**options, "after": needed - 1})


def test_the_refusal_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "{rule: feasibility, after: 18}")
    assert str(error.value) == (
        f"{tmp_path}/a.yaml:7:21: search.early_stopping: found after: 18, expected at least 19 "
        "complete trials for a confidence of 0.95"
    )


@pytest.mark.parametrize(
    ("epochs", "reduction", "rungs"),
    [
        (1, 2, []),
        (2, 2, [1]),
        (3, 2, [2]),
        (9, 2, [6]),
        (10, 2, [7]),
        (15, 2, [10]),
        (15, 3, [10]),
        (200, 3, [133]),
    ],
)
def test_the_rung_is_at_two_thirds_of_the_fit(
    epochs: int, reduction: int, rungs: list[int]
) -> None:
    assert EarlyStopping(reduction=reduction).rungs(epochs) == rungs
    assert EarlyStopping(first_rung="auto", reduction=reduction).rungs(epochs) == rungs


@pytest.mark.parametrize("text", ["0", "2.5", "often", "null", "[3]", "true"])
def test_a_first_rung_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"{{first_rung: {text}}}")
    (line,) = str(error.value).splitlines()
    assert " search.early_stopping.first_rung: found " in line
    assert "expected auto, or an epoch, 1 or more" in line


@pytest.mark.parametrize(
    "value",
    [
        "moasha",
        ["asha", "moasha"],
        ["off"],
        {"rule": "on"},
        {"confidence": 1.0},
        {"confidence": 0.0},
        {"after": 0},
        {"reduction": 1},
        {"first_rung": 0},
        3,
    ],
)
def test_what_is_none(value: Any) -> None:
    with pytest.raises(ValidationError):
        EarlyStopping.model_validate(value)
