"""The agenda of a search: draws are trained, judged at rungs, and told to Optuna."""

from functools import partial

import optuna

from micronet_search.config.sweep import Sweep
from micronet_search.engine.work import Order
from micronet_search.search.prospects import Prospects
from micronet_search.search.screening import SCREENED
from micronet_search.store.outcome import Epoch, Result
from micronet_search.store.paths import Root, TrialFolder
from micronet_search.study.agenda import Agenda
from micronet_search.study.bases import Bases
from micronet_search.study.clock import Clock
from micronet_search.study.draws import Drawn, Draws
from micronet_search.study.ledger import Ledger
from micronet_search.study.progress import Observer, Progress
from micronet_search.study.projection import Projection
from micronet_search.study.repair import repair
from micronet_search.study.rungs import Rungs
from micronet_search.study.starting_points import StartingPoints
from micronet_search.study.timing import timed


class Searching(Agenda[Drawn]):
    """Asks Optuna for candidates, screens them, decides at rungs, and enters what they found."""

    def __init__(
        self,
        sweep: Sweep,
        root: Root,
        study: optuna.Study,
        projection: Projection,
        starts: StartingPoints,
        clock: Clock,
        progress: Progress,
        observe: Observer,
    ) -> None:
        """Takes over a study whose lock is held."""
        self._sweep, self._folder, self._study = sweep, root.study(sweep.name), study
        self._projection, self._clock, self._progress = projection, clock, progress
        progress.goals = sweep.objectives
        self._tell = partial(observe, progress)
        self._ledger = Ledger(sweep, self._folder, study, projection, progress)
        self._draws = Draws(sweep, study, Prospects(sweep, starts.at), progress, self._tell)
        self._rungs = Rungs(sweep.search.early_stopping, sweep.objectives, progress.outcomes)
        self._bases = Bases(sweep, study, self._folder, progress.outcomes)

    def begin(self) -> list[Drawn]:
        """Enters what has ended, and returns the trials that a stop or a crash left unfinished."""
        if known := len(self._folder.ended()):
            self._progress.phase = f"reading trials: {known} so far"
            self._tell(None)
        draws = self._study.get_trials(deepcopy=False)
        self._progress.screened = sum(SCREENED in draw.user_attrs for draw in draws)
        return repair(self._study, self._ledger, self._draws, self._rungs, self._bases)

    def take(self) -> Drawn | None:
        """Returns the next draw to train; None on a pause, or after too many that are screened."""
        return self._draws.take(lambda: self._clock.must_pause)

    def is_exhausted(self) -> bool:
        """Returns whether no better trial is to be expected."""
        return self._draws.are_exhausted or self._progress.is_stagnant(self._sweep)

    def folder(self, number: int) -> TrialFolder:
        """Returns the folder of a trial."""
        return self._folder.trial(number)

    def name(self, number: int) -> str:
        """Returns what a trial is called."""
        return f"trial {number}"

    def prepare(self, trial: Drawn) -> None:
        """Lends a trial the fitted network of its base, if it has one."""
        self._bases.lend(trial)

    def stops(self, trial: Drawn) -> tuple[int, ...]:
        """Returns the rungs of a trial."""
        early = self._sweep.search.early_stopping
        return tuple(early.rungs(trial.candidate.training.epochs))

    def order(self, trial: Drawn, row: Epoch) -> Order:
        """Returns whether a trial goes on after a checkpoint, which need not be at a rung."""
        return self._rungs.order(trial, row)

    def enter(self, trial: Drawn, result: Result) -> str:
        """Enters a trial in the study's folder, in Optuna and in MLflow."""
        self._ledger.enter(trial.trial, timed(result, self._sweep.objectives))
        self._bases.add(trial.number)
        return self._progress.line(trial.number, self._sweep.objectives)

    def update(self) -> None:
        """Brings MLflow up to date."""
        self._projection.update()
