"""The baseline of a goal that is relative: a network that is trained before the study begins."""

from pydantic import ValidationError

from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input
from micronet_search.config.sweep import Sweep
from micronet_search.config.training import Teacher
from micronet_search.config.validation import validation_problems
from micronet_search.store.outcome import Outcome, Result, read_outcome, write_result
from micronet_search.store.paths import Root, TrialFolder
from micronet_search.study.agenda import Agenda
from micronet_search.study.queue import Planned
from micronet_search.study.resume import Fingerprints, read_fingerprints
from micronet_search.study.teachers import SEED


class Baseline(Agenda[Planned]):
    """The agenda with the baseline alone; it is kept, and found again, like a teacher."""

    def __init__(
        self, of: Teacher, root: Root, images: Input, classes: int, fingerprints: Fingerprints
    ) -> None:
        """Finds where the baseline is, or will be.

        Args:
            of: What it is.
            root: The folder of all studies.
            images: The shape of the dataset's images.
            classes: How many classes they have.
            fingerprints: Those of the splits.

        Raises:
            ValueError: It is a trial of a study that is not there, or that has judged it by other
                images.
        """
        self._candidate = candidate_of(of, images, classes)
        if self._candidate is not None:
            self._folder = root.teacher(self._candidate.digest(), fingerprints["train"].digest)
        else:
            assert of.study is not None
            assert of.trial is not None
            try:
                study = root.started(of.study)
            except ValueError as error:
                raise ValueError(f"objectives.accuracy.of: {error}") from None
            if read_fingerprints(study)["validation"] != fingerprints["validation"]:
                raise ValueError(
                    f"objectives.accuracy.of: found that the study {of.study} has other validation "
                    "images, expected those of this sweep"
                )
            self._folder = study.trial(of.trial)

    @property
    def accuracy(self) -> float | None:
        """The accuracy on the validation images; None before it is trained.

        Raises:
            ValueError: The trial is not complete, or there is none.
        """
        if not self._folder.outcome.exists() and self._candidate is not None:
            return None
        found = read_outcome(self._folder.outcome) if self._folder.outcome.exists() else None
        if found is None or found.state != "complete":
            state = "nothing" if found is None else f"a {found.state} trial ({found.reason})"
            raise ValueError(
                f"objectives.accuracy.of: found {state} in {self._folder.path}, expected a "
                "complete trial; change the baseline, or remove the folder to train it again"
            )
        return found.accuracy

    def take(self) -> Planned | None:
        """Returns the baseline."""
        assert self._candidate is not None
        return Planned(0, self._candidate, SEED)

    def is_exhausted(self) -> bool:
        """Returns whether the baseline is trained."""
        return self._folder.outcome.exists()

    def folder(self, number: int) -> TrialFolder:
        """Returns the baseline's folder."""
        return self._folder

    def name(self, number: int) -> str:
        """Returns what the baseline is called."""
        return "the baseline"

    def enter(self, trial: Planned, result: Result) -> str:
        """Keeps the baseline."""
        write_result(self._folder, result)
        self._folder.checkpoint.unlink(missing_ok=True)
        return f"the baseline: {_described(result.outcome)}"


def candidate_of(of: Teacher, images: Input, classes: int) -> Candidate | None:
    """Returns the baseline as a candidate; None where it is a trial of another study.

    Raises:
        ValueError: The network does not go with the images.
    """
    if of.network is None or of.training is None:
        return None
    try:
        return Candidate(input=images, classes=classes, network=of.network, training=of.training)
    except ValidationError as error:
        ((_, message), *_) = validation_problems(error, Candidate)
        raise ValueError(f"objectives.accuracy.of: {message}") from None


def _described(outcome: Outcome) -> str:
    if outcome.accuracy is None:
        return f"{outcome.state}: {outcome.reason}"
    return f"accuracy {outcome.accuracy:.4f}"


def settled(sweep: Sweep, accuracy: float) -> Sweep:
    """Returns a sweep whose goal follows from the accuracy of its baseline.

    Raises:
        ValueError: The goal would not be above 0.
    """
    goal = sweep.objectives.accuracy
    assert goal.at_most_below is not None
    if accuracy <= goal.at_most_below:
        raise ValueError(
            f"objectives.accuracy: found a baseline with an accuracy of {accuracy:.4f}, expected "
            f"one above at_most_below, {goal.at_most_below:g}"
        )
    found = goal.model_copy(update={"at_least": accuracy - goal.at_most_below})
    objectives = sweep.objectives.model_copy(update={"accuracy": found})
    return sweep.model_copy(update={"objectives": objectives})
