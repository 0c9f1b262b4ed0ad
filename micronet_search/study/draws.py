"""What is asked of Optuna: draws, most of which are candidates to train."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.trial import Trial, TrialState
from pydantic import ValidationError

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems
from micronet_search.data import splits
from micronet_search.score.rules import scores
from micronet_search.search import screening, space
from micronet_search.search.screening import Screened
from micronet_search.study.progress import Progress
from micronet_search.study.survey import violations


class Draws:
    """Asks Optuna for candidates, and refuses those that are too expensive, known or none.

    Attributes:
        are_exhausted: Whether too many in a row were refused.
    """

    def __init__(
        self, sweep: Sweep, study: optuna.Study, progress: Progress, report: Callable[[str], None]
    ) -> None:
        """Takes over the draws of a study whose lock is held.

        Args:
            sweep: Its space and its goals.
            study: Optuna's.
            progress: Counts what is refused, and knows how trials ended.
            report: Is told of each draw that is refused.
        """
        self.are_exhausted = False
        self._objectives = sweep.objectives
        self._space = sweep.space
        self._images, self._classes = splits.describe(sweep.dataset)
        self._study = study
        self._progress = progress
        self._report = report
        self._seen: dict[str, int] = {}
        self._scores: dict[str, float] = {}
        self._undecided: list[Trial] = []

    def remember(self, digest: str, number: int) -> None:
        """Knows a candidate as tried."""
        self._seen.setdefault(digest, number)

    def give_back(self, trial: Trial) -> None:
        """Takes a draw of which nobody knows yet whether it is refused."""
        self._undecided.append(trial)

    def take(self, must_pause: Callable[[], bool]) -> Trial | None:
        """The next draw that is not refused; None on a pause, or after too many that are."""
        refused: list[Screened] = []
        while len(refused) < screening.MAX_SCREENED_IN_A_ROW and not must_pause():
            trial = self._undecided.pop() if self._undecided else self._study.ask()
            verdict = self._judge(trial)
            if verdict is None:
                return trial
            refused.append(verdict)
            self._screen(trial, verdict)
        if len(refused) == screening.MAX_SCREENED_IN_A_ROW:
            self.are_exhausted = True
            self._report(screening.describe_end(refused, self._objectives))
        return None

    def candidate(self, trial: Trial) -> Candidate:
        """What a draw stands for.

        Raises:
            ValidationError: It makes no candidate.
        """
        return read_candidate(space.suggest(trial, self._space), self._images, self._classes)

    def predicted_score(self, candidate: Candidate) -> float:
        """The score that the study minimises, before training.

        Raises:
            TooLargeError: The network cannot be built.
        """
        digest = candidate.digest()
        if digest not in self._scores:
            found = scores(build.predict(candidate))
            self._scores[digest] = found[self._objectives.score.rule].score
        return self._scores[digest]

    def _judge(self, trial: Trial) -> Screened | None:
        """Why a draw is refused; None for one to train, which is then known as tried."""
        try:
            candidate = self.candidate(trial)
            digest, score = candidate.digest(), self.predicted_score(candidate)
        except ValidationError as error:
            ((_, message), *_) = validation_problems(error, Candidate)
            return screening.impossible(message)
        except build.TooLargeError as error:
            return screening.impossible(str(error))
        verdict = screening.screen(digest, score, self._objectives, self._seen)
        if verdict is None:
            trial.set_user_attr("digest", digest)
            self._seen[digest] = trial.number
        return verdict

    def _screen(self, trial: Trial, verdict: Screened) -> None:
        """Tells Optuna of a refused draw: PRUNED, with both constraints.

        Its accuracy counts as missed in full. Samplers take a constraint that is not set for one
        that is met, so that a draw above the ceiling would outrank every trained trial that misses
        its accuracy.
        """
        score = verdict.score
        if verdict.reason == "impossible":  # as far off as ten times the ceiling
            score = 10 * self._objectives.score.at_most
        missed = screening.violations(0.0, score, self._objectives)
        if verdict.of is not None and verdict.of in self._progress.outcomes:
            of = self._progress.outcomes[verdict.of]
            missed = violations(of, self._objectives) or missed
        for name, violation in missed.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr(screening.SCREENED, verdict.message)
        self._study.tell(trial, state=TrialState.PRUNED)
        self._progress.screened += 1
        self._report(f"draw {trial.number} screened: {verdict.message}")
