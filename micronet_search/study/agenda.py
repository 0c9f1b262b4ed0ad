"""What a driver is to run: the search of a study, the repeats of its front, or its baseline."""

from abc import ABC, abstractmethod
from typing import Generic

from micronet_search.engine.work import Order
from micronet_search.store.outcome import Epoch, Result
from micronet_search.store.paths import TrialFolder
from micronet_search.study.queue import P


class Agenda(ABC, Generic[P]):
    """Which trials a driver runs, and where what they leave is entered."""

    full_train: bool = False
    """Whether trials are trained on the validation images too."""

    def begin(self) -> list[P]:
        """Takes over what an earlier start left, and returns the trials to continue."""
        return []

    @abstractmethod
    def take(self) -> P | None:
        """Returns the next trial to begin; None on a pause, or if there is none."""

    @abstractmethod
    def is_exhausted(self) -> bool:
        """Returns whether no more trials are to begin, also short of the total."""

    @abstractmethod
    def folder(self, number: int) -> TrialFolder:
        """Returns the folder of a trial."""

    @abstractmethod
    def name(self, number: int) -> str:
        """Returns what a trial is called."""

    def prepare(self, trial: P) -> None:
        """Is told of a trial whose job is made next."""

    def stops(self, trial: P) -> tuple[int, ...]:
        """Returns the epochs after which a trial waits for an order."""
        return ()

    def order(self, trial: P, row: Epoch) -> Order:
        """Returns whether a trial goes on after a checkpoint."""
        return "go"

    @abstractmethod
    def enter(self, trial: P, result: Result) -> str:
        """Enters a trial that has ended, and returns how it did, for the log."""

    def update(self) -> None:
        """Is called again and again, whatever happens."""
