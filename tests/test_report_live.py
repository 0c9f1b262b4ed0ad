"""What a running study shows."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from micronet_search.config.sweep import Objectives
from micronet_search.report.live import Display, duration, render
from micronet_search.store.outcome import Outcome
from micronet_search.study.progress import Progress, Running
from micronet_search.study.survey import Survey

GOALS = Objectives.model_validate({"accuracy": {"at_least": 0.9}, "score": {"at_most": 0.02}})


def outcome(state: Any) -> Outcome:
    return Outcome(state=state, started=0, ended=1, device="cpu")


def progress() -> Progress:
    states = ["complete", "complete", "stopped", "failed", "complete", "stopped"]
    return Progress(
        total=20,
        outcomes={i: outcome(state) for i, state in enumerate(states)},
        running={
            7: Running("trial 7", 12, 60, 0.8125, "fit"),
            8: Running("trial 8"),
            1000: Running("trial 1000", 112, 160, 0.925, "factorize"),
        },
        screened=4,
        feasible={1, 4},
        goals=GOALS,
        survey=Survey((1, 4), 0.0123456, 0.00456),
        seconds_left=4200,
    )


def shown(what: Any, width: int = 100) -> str:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None)
    console.print(what)
    return written.getvalue()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_figures_are_shown(width: int) -> None:
    text = re.sub(r"\s+", " ", shown(render("my-study", progress()), width))
    for figure in (
        "my-study",
        "trials 6/20",
        "running 3",
        "feasible 2",
        "draws: 4 screened",
        "goal: accuracy 0.9, score 0.02",
        "stopped 2",
        "failed 1",
        "best score 0.012346",
        "hypervolume 0.00456",
        "1 h 10 min left",
        "epoch 12/60",
        "accuracy 0.8125",
        "factorize",
    ):
        assert figure in text


def test_a_line_for_each_trial_fits_80_columns() -> None:
    lines = shown(render("my-study", progress()), 80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) == 7
    assert " ".join(re.sub("[━╸╺]", " ", lines[4]).split()) == (
        "trial 7 fit epoch 12/60 accuracy 0.8125"
    )
    assert lines[6].split()[-5:] == ["epoch", "112/160", "accuracy", "0.9250", "goal"]


def test_a_study_that_has_just_begun() -> None:
    text = shown(render("my-study", Progress(total=3, running={0: Running("trial 0")})))
    assert "trials 0/3" in text
    assert "starting" in text
    assert "best score -" in text
    assert "left" not in text


def test_what_goes_on_before_the_first_trial_is_shown_in_the_place_of_figures() -> None:
    text = shown(render("my-study", Progress(total=3, phase="reading 2 trials")))
    assert "my-study: reading 2 trials" in text
    assert "0/3" not in text
    again = progress()
    again.phase = "starting"
    text = shown(render("my-study", again))
    assert "my-study: starting" in text
    assert "trials 6/20" in text


def test_what_goes_on_before_the_first_trial_is_a_line_of_the_log() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=False)
    with Display("my-study", console) as display:
        for phase in ("loading the dataset", "loading the dataset", "starting", None):
            display(Progress(total=3, phase=phase), None)
        display(Progress(total=3), "engine inline")
    lines = [line.split("] ")[1] for line in written.getvalue().splitlines()]
    assert lines == ["loading the dataset", "starting", "engine inline"]


def test_a_teacher_has_a_line_of_its_own() -> None:
    text = shown(
        render("my-study", Progress(total=3, running={-1: Running("teacher 0a1b", 4, 12, 0.5)}))
    )
    assert "running 0" in text
    assert "teacher" in text
    assert "epoch 4/12" in text
    assert "accuracy 0.5000" in text


def test_lines_alone_where_it_is_no_terminal() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=False)
    with Display("my-study", console) as display:
        display(progress(), None)
        display(progress(), "trial 5 complete [score 0.01]: " + 30 * "long ")
        display(progress(), None)
    text = written.getvalue()
    assert re.fullmatch(r"\[\d+ s\] trial 5 complete \[score 0.01\]: (long )+\n", text)


def test_a_line_stands_above_the_live_figures() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    with Display("my-study", console) as display:
        display(progress(), "trial 5 complete")
    text = written.getvalue()
    assert text.index("my-study: opening") < text.index("trial 5 complete")
    assert text.index("trial 5 complete") < text.rindex("trials 6/20")


def test_a_long_line_leaves_the_live_figures_whole() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=50, color_system=None)
    with Display("my-study", console) as display:
        display(progress(), "draw 7 screened: " + 20 * "long ")
        text = written.getvalue()
    after = re.sub(r"\x1b\[\w+|\s+", " ", text[text.index("draw 7") :])
    assert "hypervolume 0.00456 1 h 10 min left" in re.sub(" +", " ", after)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7630, "2 h 07 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
