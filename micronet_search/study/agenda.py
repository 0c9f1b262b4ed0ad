"""What a driver is to run: the searching of a study, or the confirming of its front."""

from typing import Protocol

from micronet_search.engine.work import Order
from micronet_search.store.outcome import Epoch, Result
from micronet_search.store.paths import TrialFolder
from micronet_search.study.queue import P


class Agenda(Protocol[P]):
    """Which trials a driver runs, and where what they leave is entered."""

    full_train: bool
    """Whether trials are trained on the validation images too."""

    def begin(self) -> list[P]:
        """Takes over what an earlier start left, and returns the trials to continue."""

    def take(self) -> P | None:
        """Returns the next trial to begin; None on a pause, or if there is none."""

    def is_exhausted(self) -> bool:
        """Returns whether no more trials are to begin, also short of the total."""

    def folder(self, number: int) -> TrialFolder:
        """Returns the folder of a trial."""

    def name(self, number: int) -> str:
        """Returns what a trial is called."""

    def prepare(self, trial: P) -> None:
        """Is told of a trial whose job is made next."""

    def stops(self, trial: P) -> tuple[int, ...]:
        """Returns the epochs after which a trial waits for an order."""

    def order(self, trial: P, row: Epoch) -> Order:
        """Returns whether a trial goes on after a checkpoint."""

    def enter(self, trial: P, result: Result) -> str:
        """Enters a trial that has ended, and returns how it did, for the log."""

    def update(self) -> None:
        """Is called again and again, whatever happens."""
