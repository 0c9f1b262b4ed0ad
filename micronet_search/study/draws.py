"""The draws of a study: Optuna is asked for them, and most are candidates to train."""

from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.trial import Trial, TrialState
from pydantic import ValidationError

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems
from micronet_search.search import samplers, screening, space
from micronet_search.search.prospects import Prospects
from micronet_search.search.screening import Screened
from micronet_search.study.progress import Progress
from micronet_search.study.queue import Planned, seed_of
from micronet_search.study.survey import violations

_FAR = 10.0
"""So many times its ceiling counts as what a draw that is screened does not have."""


@dataclass(frozen=True)
class Drawn(Planned):
    """A draw that is to be trained.

    Attributes:
        trial: Optuna's.
        score: Predicted, by the rule that the study minimises.
    """

    trial: Trial
    score: float


class Draws:
    """Asks Optuna for candidates, and screens out those that are not to be trained.

    Attributes:
        are_exhausted: Whether too many draws in a row were screened.
        undecided: Draws of an earlier start that were neither screened nor begun; they are judged
            before Optuna is asked for more.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: optuna.Study,
        prospects: Prospects,
        progress: Progress,
        report: Callable[[str], None],
    ) -> None:
        """Takes over the draws of a study whose lock is held.

        Args:
            sweep: Its space and its goals.
            study: Optuna's.
            prospects: Tells what a draw stands for, and its score.
            progress: Counts what is screened, and knows how trials ended.
            report: Is told of each draw that is screened.
        """
        self.are_exhausted = False
        self.undecided: list[Trial] = []
        self._seed = sweep.search.seed
        self._objectives = sweep.objectives
        self._space = sweep.space
        self._prospects = prospects
        self._study = study
        self._study.sampler = samplers.create(sweep, prospects)
        self._progress = progress
        self._report = report
        self._seen: dict[str, int] = {}

    def remember(self, digest: str, number: int) -> None:
        """Takes in that a candidate was tried, by its digest."""
        self._seen.setdefault(digest, number)

    def take(self, must_pause: Callable[[], bool]) -> Drawn | None:
        """Returns the next draw to train; None on a pause, or after too many that are screened.

        `must_pause` is asked before each draw.
        """
        refused: list[Screened] = []
        while len(refused) < screening.MAX_SCREENED_IN_A_ROW and not must_pause():
            trial = self.undecided.pop() if self.undecided else self._study.ask()
            found = self._judge(trial)
            if isinstance(found, Drawn):
                return found
            refused.append(found)
            self._screen(trial, found)
        if len(refused) == screening.MAX_SCREENED_IN_A_ROW:
            self.are_exhausted = True
            self._report(screening.describe_end(refused, self._objectives))
        return None

    def read(self, trial: Trial) -> Drawn:
        """Returns what a trial stands for, with its predicted score.

        Raises:
            ValidationError: It makes no candidate.
            TooLargeError: The network cannot be built.
        """
        found = self._prospects.of(space.suggest(trial, self._space))
        seed = seed_of(self._seed, trial.number)
        return Drawn(trial.number, found.candidate, seed, trial, found.score)

    def _judge(self, trial: Trial) -> Drawn | Screened:
        """Returns the draw, which counts as tried from now on, or why it is screened."""
        try:
            drawn = self.read(trial)
        except ValidationError as error:
            ((_, message), *_) = validation_problems(error, Candidate)
            return screening.impossible(message)
        except build.TooLargeError as error:
            return screening.impossible(str(error))
        digest = drawn.candidate.digest()
        verdict = screening.screen(digest, drawn.score, self._objectives, self._seen)
        if verdict is not None:
            return verdict
        trial.set_user_attr(screening.DIGEST, digest)
        self._seen[digest] = trial.number
        return drawn

    def _screen(self, trial: Trial, verdict: Screened) -> None:
        """Tells Optuna that a draw was screened: PRUNED, with every constraint.

        Its accuracy counts as missed in full, and its latency, where there is a goal for it, by
        far. Samplers take a constraint that is not set for one that is met, so that a draw above
        the ceiling would outrank every trained trial that misses its accuracy.
        """
        goals, score = self._objectives, verdict.score
        if verdict.reason == "impossible":
            score = _FAR * goals.score.at_most
        latency = _FAR * goals.latency.at_most if goals.latency else None
        missed = screening.violations(0.0, score, goals, latency)
        if verdict.of is not None and verdict.of in self._progress.outcomes:
            of = self._progress.outcomes[verdict.of]
            missed = violations(of, goals) or missed
        for name, violation in missed.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr(screening.SCREENED, verdict.message)
        self._study.tell(trial, state=TrialState.PRUNED)
        self._progress.screened += 1
        self._report(f"draw {trial.number} screened: {verdict.message}")
