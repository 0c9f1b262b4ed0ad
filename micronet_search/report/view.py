"""What the files of a study say, whether its driver runs or not."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from micronet_search.config.files import load_candidate, load_stored_sweep
from micronet_search.config.sweep import Sweep, Tracking
from micronet_search.report import explain
from micronet_search.store.outcome import Outcome, read_outcomes, read_repeats
from micronet_search.store.owner import is_running
from micronet_search.store.paths import Repeat, Root, StudyFolder, TrialFolder
from micronet_search.study.confirmation import Confirmation
from micronet_search.study.repeats import read_confirmations
from micronet_search.study.start import read_start
from micronet_search.study.survey import Survey, front_row, score_of, survey


@dataclass(frozen=True)
class View:
    """A study that was read from its files: the outcomes of the trials that have ended by number.

    The trials that are `unfinished` are running or were interrupted. `confirmations` has what the
    repeats of trials say, by the trial's number.
    """

    sweep: Sweep
    folder: StudyFolder
    outcomes: dict[int, Outcome]
    unfinished: tuple[int, ...]
    survey: Survey
    confirmations: dict[int, Confirmation]

    @property
    def score_title(self) -> str:
        """The title of a column of scores."""
        return f"score ({self.sweep.objectives.score.rule})"

    @property
    def goal(self) -> float:
        """The accuracy that is asked for, 0 to 1."""
        return self.sweep.objectives.accuracy.at_least

    @property
    def state(self) -> Literal["running", "paused", "finished"]:
        """Whether a driver runs the study, and if not, whether it has ended.

        A study whose driver was killed is paused: the same command continues it.
        """
        if is_running(self.folder):
            return "running"
        with suppress(ValueError):  # a damaged file, which the next start writes anew
            if read_start(self.folder).finished:
                return "finished"
        return "paused"

    def score(self, number: int) -> float:
        """Returns a trial's score by the study's score rule."""
        return score_of(self.outcomes[number], self.sweep.objectives)

    def front(self) -> list[dict[str, Any]]:
        """Returns the trials on the front as plain values, lowest score first; none is an error."""
        if not self.survey.front:
            goals = self.sweep.objectives
            raise ValueError(
                f"the front of {self.sweep.name} is empty: none of its {len(self.outcomes)} trials "
                f"has accuracy >= {goals.accuracy.at_least:g} and {goals.score.rule} score "
                f"<= {goals.score.at_most:g}"
                + (f" and latency <= {goals.latency.at_most:g} ms" if goals.latency else "")
            )
        return [self.row(number) for number in self.survey.front]

    def front_choices(self) -> dict[int, Mapping[str, Any]]:
        """Returns the choices of the trials on the front, by number and dotted path.

        Where Optuna's storage cannot be read, a warning says so, and there are none.
        """
        from micronet_search.study.history import read_draws  # takes a second

        try:
            draws = read_draws(self.folder, self.sweep)
        except ValueError as error:
            print(f"warning: the choices are left out: {explain(error)}", file=sys.stderr)
            return {}
        return {number: draws[number].params for number in self.survey.front if number in draws}

    def confirmed(self) -> list[dict[str, Any]]:
        """Returns the trials that are confirmed, lowest score first, as rows like the front's."""
        return [row for row in self.repeated() if row["confirmed"]]

    def repeated(self) -> list[dict[str, Any]]:
        """Returns the trials that were repeated, lowest score first, as rows like the front's."""
        numbers = sorted(self.confirmations, key=lambda number: (self.score(number), number))
        return [self.row(number) for number in numbers]

    def shipped(self, number: int) -> TrialFolder:
        """Returns the folder with the network that an export of a trial ships.

        Of a trial that is confirmed it is that of the repeat with the median test accuracy.
        """
        confirmation = self.confirmations.get(number)
        if confirmation is None or not confirmation.reaches(self.goal):
            return self.folder.trial(number)
        repeat = Repeat(number, confirmation.median_seed, confirmation.full_train)
        return self.folder.repeat(repeat)

    def row(self, number: int) -> dict[str, Any]:
        """Returns a trial as plain values; if it was repeated, with what its repeats say."""
        outcome, goals = self.outcomes[number], self.sweep.objectives
        figures = front_row(number, outcome, goals)
        row = {name: figures[name] for name in ("trial", "accuracy", "score")}
        row |= {"scores": outcome.scores} | figures
        if number in self.confirmations:
            row |= self.confirmations[number].to_json(self.goal)
        candidate = load_candidate(self.folder.trial(number).candidate)
        return row | {"candidate": candidate.model_dump(mode="json")}


def read(root: Root, name: str, at_least: float | None = None) -> View:
    """Reads a study from its files, with another goal for the accuracy if one is given.

    Raises:
        ValueError: The study is missing or damaged.
    """
    folder = root.started(name)
    sweep = load_stored_sweep(folder.sweep)
    if at_least is not None:
        sweep = sweep.override(objectives={"accuracy": {"at_least": at_least}})
    outcomes = read_outcomes(folder, sweep.objectives.score.rule)
    unfinished = tuple(number for number in folder.trials() if number not in outcomes)
    found = survey(outcomes, sweep.objectives)
    repeats = read_repeats(folder, sweep.objectives.score.rule)
    confirmed = read_confirmations(folder, repeats)
    return View(sweep, folder, outcomes, unfinished, found, confirmed)


def read_all(root: Root) -> list[View]:
    """Reads every study under a root that can be read, and warns of the others."""
    views = []
    for name in root.studies():
        with _warned(name):
            views.append(read(root, name))
    return views


def newest(root: Root) -> list[str]:
    """Returns the names of the studies under a root, that which was started last first."""
    sweeps = {name: root.study(name).sweep for name in root.studies()}
    return sorted(sweeps, key=lambda name: sweeps[name].stat().st_mtime, reverse=True)


def tracking(root: Root) -> Tracking:
    """Returns where the study that was started last, of those that can be read, has its records."""
    for name in newest(root):
        with _warned(name):
            return load_stored_sweep(root.study(name).sweep).tracking
    return Tracking()


@contextmanager
def _warned(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        reason, *_ = explain(error).splitlines()
        print(f"warning: the study {name} is left out: {reason}", file=sys.stderr)
