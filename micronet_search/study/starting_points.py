"""Where trials start: at the fitted networks of another study, whose candidates are tried first."""

from collections.abc import Callable
from pathlib import Path

from micronet_search import shipped
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import load_candidate, load_stored_sweep
from micronet_search.config.network import Network
from micronet_search.config.sweep import Sweep
from micronet_search.config.training import StartingPoint
from micronet_search.data.splits import Fingerprint
from micronet_search.search import space
from micronet_search.search.encoding import Parameters
from micronet_search.store.outcome import Outcome, read_outcome, read_outcomes
from micronet_search.store.paths import Root
from micronet_search.study.resume import read_fingerprints
from micronet_search.study.survey import leaders
from micronet_search.trial.stages import FIT


class StartingPoints:
    """Says where the candidates of a study start, and reads the networks there.

    The same candidate starts at the same point whenever it is drawn: at the trial of
    `search.start_from` that has its network, and of several at the one that was most accurate at
    the end of its first fit.
    """

    def __init__(self, sweep: Sweep, root: Root, images: Fingerprint) -> None:
        """Reads the trials that the sweep of a study names, which has begun.

        Args:
            sweep: The sweep, with the numbers of the trials.
            root: The root of both studies.
            images: The fingerprint of the study's training images.

        Raises:
            ValueError: A trial has no fitted network, or was trained on other images.
        """
        self._root = root
        self._images = images
        self._points: list[tuple[Network, StartingPoint]] = []  # the most accurate first
        source = sweep.search.start_from
        if source is None:
            return
        folder = root.started(source.study)
        found: list[tuple[float, Network, StartingPoint]] = []
        for number in source.trials or ():
            point, files = StartingPoint(study=source.study, trial=number), folder.trial(number)
            self._file(point)
            accuracy = _fitted_accuracy(read_outcome(files.outcome))
            found.append((accuracy, load_candidate(files.candidate).network, point))
        found.sort(key=lambda each: -each[0])
        self._points = [(network, point) for _, network, point in found]

    def at(self, candidate: Candidate) -> Candidate:
        """Returns a drawn candidate with the point at which it starts, if there is one for it."""
        points = [point for network, point in self._points if network == candidate.network]
        if candidate.start is not None or not points:
            return candidate
        return candidate.model_copy(update={"start": points[0]})

    def failure(self, candidate: Candidate) -> str | None:
        """Returns why a candidate cannot start where it says; None if it can."""
        try:
            if candidate.start is not None:
                self._file(candidate.start)
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def content(self, candidate: Candidate) -> bytes | None:
        """Returns the network from which a candidate starts; None if its weights are fresh.

        Raises:
            ValueError: There is no such network, or it saw other images.
        """
        return None if candidate.start is None else self._file(candidate.start).read_bytes()

    def _file(self, start: StartingPoint) -> Path:
        place = f"start: trial {start.trial} of the study {start.study}"
        study = self._root.study(start.study)
        file = study.trial(start.trial).fitted
        if not file.is_file():
            raise ValueError(f"{place}: found no {file}, expected a complete trial that has one")
        size = file.stat().st_size
        if size > shipped.MAX_BYTES:
            raise ValueError(
                f"{place}: found {size:,} bytes, expected at most {shipped.MAX_BYTES:,}"
            )
        if read_fingerprints(study)["train"] != self._images:
            raise ValueError(
                f"{place}: found that it was trained on other images, expected those of this sweep"
            )
        return file


def resolved(sweep: Sweep, root: Root) -> Sweep:
    """Returns the sweep of a new study with the numbers of the trials that it starts from.

    Raises:
        ValueError: The study that it names is itself, is not there, or lacks such trials.
    """
    source = sweep.search.start_from
    if source is None:
        return sweep
    if source.study == sweep.name:
        raise ValueError(f"start_from: found {source.study}, this study, expected another one")
    try:
        folder = root.started(source.study)
    except ValueError as error:
        raise ValueError(f"start_from: {error}") from None
    if source.trials is not None:
        return sweep
    goals = load_stored_sweep(folder.sweep).objectives
    trials = leaders(read_outcomes(folder, goals.score.rule), goals)
    if not trials:
        raise ValueError(f"start_from: found no complete trial in {source.study}, expected one")
    found = source.model_copy(update={"trials": trials})
    search = sweep.search.model_copy(update={"start_from": found})
    return sweep.model_copy(update={"search": search})


def choices(sweep: Sweep, root: Root, tell: Callable[[str], None]) -> list[Parameters]:
    """Returns the choices that draw the candidates of `search.start_from`.

    What the sweep fixes is taken from it, what it leaves open from them as far as it allows that.
    `tell` is given a line for each candidate whose network the sweep cannot draw.
    """
    source, found = sweep.search.start_from, list[Parameters]()
    if source is None:
        return found
    for number in source.trials or ():
        candidate = load_candidate(root.study(source.study).trial(number).candidate)
        try:
            tree = candidate.model_dump(mode="json")
            found.append(space.find_choices(sweep.space, tree, "network"))
        except space.OutsideSpaceError as error:
            tell(f"start_from: trial {number} of {source.study} is left out: {error}")
    return found


def _fitted_accuracy(outcome: Outcome) -> float:
    return [row.accuracy for row in outcome.curve if row.stage == FIT][-1]
