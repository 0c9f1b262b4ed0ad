"""Networks that are trained once and compressed several times, in whole studies."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import new_root
from studies import Left, assert_same, read, tiny, write

from micronet_search.config.files import load_sweep
from micronet_search.store.paths import Root
from micronet_search.study import opening
from micronet_search.study.bases import ASKED_FOR, check

FIXED = ("network.stem.width", "network.growth_rate", "network.layers", "training.learning_rate")


def run(root: Path, trials: int, sampler: str = "frontier", **changes: Any) -> Left:
    options = {"name": sampler} | ({"candidates": 16} if sampler == "frontier" else {})
    search = {"trials": trials, "sampler": options, "seed": 3, "compressions_per_network": 3}
    tree = tiny(search=search, execution={"engine": "inline", "device": "cpu"}, **changes)
    sweep = load_sweep(write(root / "tiny.yaml", tree))
    opening.run(sweep, Root(root), lambda *_: None)
    return read(root, "tiny")


@pytest.mark.parametrize("sampler", ["frontier", "tpe"])
def test_a_network_is_trained_once_and_compressed_three_times(runs: Path, sampler: str) -> None:
    left = run(runs, 6, sampler)
    bases = [outcome.base for _, outcome in sorted(left.outcomes.items())]
    if sampler == "frontier":  # of TPE's draws some are screened
        assert bases == [None, 0, 0, None, 3, 3]
    assert bases[0] is None
    assert bases[1] == 0
    trials, files = left.optuna, left.root.study("tiny")
    for number, outcome in left.outcomes.items():
        assert outcome.state == "complete"
        assert ("fit" in outcome.seconds) == (outcome.base is None)
        assert "quantize" in outcome.seconds
        tag = left.children[number].tags.get("base")
        assert tag == (None if outcome.base is None else str(outcome.base))
        if outcome.base is None:
            continue
        own, base = trials[number].params, trials[outcome.base].params
        assert [own[path] for path in FIXED] == [base[path] for path in FIXED]
        assert own != base
        assert outcome.curve[:3] == left.outcomes[outcome.base].curve[:3]
        assert outcome.curve[3:] != left.outcomes[outcome.base].curve[3:]
        fitted = files.trial(number).fitted, files.trial(outcome.base).fitted
        assert fitted[0].read_bytes() == fitted[1].read_bytes()
    alone = [trials[n].params for n, outcome in left.outcomes.items() if outcome.base is None]
    assert len({str([params[path] for path in FIXED]) for params in alone}) == len(alone) > 1


def test_a_stop_within_the_compressions_changes_nothing(
    runs: Path, tmp_path: Path, database: Path
) -> None:
    for trials in (2, 5):
        stopped = run(runs, trials)
    assert sum(ASKED_FOR in trial.user_attrs for trial in stopped.optuna) == 4
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    assert_same(stopped, run(new_root(unbroken, database), 5))


def test_what_was_asked_for_before_a_crash_is_not_asked_for_again(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver dies between the end of the base and the last draw that is asked for."""
    enqueue, calls = optuna.Study.enqueue_trial, list[int]()

    def crash(study: optuna.Study, *args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        enqueue(study, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", crash)
        with pytest.raises(KeyboardInterrupt):
            run(runs, 4)
    left = run(runs, 4)
    assert [left.outcomes[n].base for n in range(4)] == [None, 0, 0, None]


def test_without_the_file_of_its_base_a_network_is_trained_again(runs: Path) -> None:
    run(runs, 1)
    Root(runs).study("tiny").trial(0).fitted.write_bytes(b"damaged")
    left = run(runs, 2)
    assert left.outcomes[1].base is None
    assert "fit" in left.outcomes[1].seconds


@pytest.mark.parametrize("span", ["stage", "trial"])
def test_a_rate_that_spans_the_trial_makes_its_epochs_part_of_the_base(
    runs: Path, span: str
) -> None:
    pruning = {"sparsity": 0.5, "epochs": {"low": 1, "high": 9}}
    left = run(runs, 3, candidate__training__span=span, candidate__pruning=pruning)
    epochs = [len(left.outcomes[n].curve) for n in range(3)]
    bases = [left.outcomes[n].base for n in range(3)]
    assert epochs[1] != epochs[0]
    assert bases[1] == (0 if span == "stage" else None)
    if span == "trial":
        assert bases[2] == (epochs.index(epochs[2]) if epochs[2] in epochs[:2] else None)


def test_compressions_need_a_choice(tmp_path: Path) -> None:
    tree = tiny(search={"trials": 2, "compressions_per_network": 2})
    tree["candidate"] |= {"pruning": None, "quantization": None}
    with pytest.raises(ValueError, match="compressions_per_network: found 2 and no choice in"):
        check(load_sweep(write(tmp_path / "tiny.yaml", tree)))
