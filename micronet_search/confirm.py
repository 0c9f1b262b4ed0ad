"""Confirming a front: its candidates are trained again with other seeds, and tested.

A search chooses by accuracies on one validation split, and the best of many are lucky ones. What
is confirmed here was chosen before, so that the test split, which the search never sees, says how
good it is. A confirmation stops and resumes like a study.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from micronet_search import shipped
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import load_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.data import splits
from micronet_search.data.splits import Images
from micronet_search.engine.choice import open_engine
from micronet_search.store.outcome import Result, read_outcomes, write_result
from micronet_search.store.owner import driver_lock
from micronet_search.store.paths import MODEL_FILE, Repeat, Root, StudyFolder, TrialFolder
from micronet_search.study import resume
from micronet_search.study.agenda import Agenda
from micronet_search.study.clock import Clock
from micronet_search.study.confirmation import contenders
from micronet_search.study.driver import Driver
from micronet_search.study.progress import Observer, Progress
from micronet_search.study.projection import Projection
from micronet_search.study.queue import Planned, seed_of
from micronet_search.study.starting_points import StartingPoints
from micronet_search.study.storage import open_study
from micronet_search.study.survey import survey
from micronet_search.study.teachers import Teachers
from micronet_search.training.fit import accuracy

BATCH = 250
"""Test images that are looked at together."""


def confirm(
    root: Root, sweep: Sweep, observe: Observer, *, top: int, seeds: int, full_train: bool
) -> Progress:
    """Trains the best candidates of a study again, and tests them.

    Args:
        root: The folder of all studies.
        sweep: That of a study which has run; its execution says where repeats run.
        observe: Is shown the progress.
        top: How many candidates are confirmed, those of the lowest score first.
        seeds: How often each of them is trained.
        full_train: Whether they are trained on the validation images too.

    Raises:
        ValueError: There is nothing to confirm, the images are others, or a teacher's outputs are
            cached for fewer images.
    """
    folder = root.study(sweep.name)
    with driver_lock(folder):
        outcomes = read_outcomes(folder, sweep.objectives.score.rule)
        loaded = splits.load(sweep.dataset)
        fingerprints = loaded.fingerprints()
        resume.refuse_other_images(folder, fingerprints)
        trials = contenders(outcomes, sweep.objectives, len(loaded.validation))[:top]
        if not trials:
            raise ValueError(
                f"found no trial of {sweep.name} that reaches its goals, nor one that chance may "
                "have kept below them; expected one to confirm"
            )
        repeats = [Repeat(n, seed, full_train) for n in trials for seed in range(1, seeds + 1)]
        progress = Progress(len(repeats), survey=survey(outcomes, sweep.objectives))
        tell = partial(observe, progress)
        study = open_study(folder, sweep)
        projection = Projection(sweep, root, study, outcomes, tell)
        agenda = Confirming(sweep, folder, repeats, loaded.test, projection, progress)
        engine, _ = open_engine(loaded, sweep.dataset, sweep.execution, tell)
        with closing(engine):
            teachers = Teachers(root, fingerprints["train"], sweep)
            starts, clock = StartingPoints(sweep, root, fingerprints["train"]), Clock(None, None)
            try:
                Driver(sweep, agenda, engine, teachers, starts, clock, progress, observe).run()
            finally:
                projection.deliver()
    return progress


class Confirming(Agenda[Planned]):
    """The agenda of a confirmation: repeats, in their order, which are numbered by it."""

    def __init__(
        self,
        sweep: Sweep,
        folder: StudyFolder,
        repeats: Sequence[Repeat],
        test: Images,
        projection: Projection,
        progress: Progress,
    ) -> None:
        """Takes over a study whose lock is held, and counts the repeats that have ended."""
        self._seed, self._objectives = sweep.search.seed, sweep.objectives
        self._folder, self._repeats, self._test = folder, repeats, test
        self._projection, self._progress = projection, progress
        self.full_train = any(repeat.full_train for repeat in repeats)
        self._candidates = [load_candidate(folder.trial(n).candidate) for n, *_ in repeats]
        if self.full_train and any(map(_looks_up, self._candidates)):
            raise ValueError(
                "found distillation with cached: true, whose teacher has looked at the training "
                "images alone, expected no full training, or a teacher that is asked each time"
            )
        self._waiting: list[int] = []
        for number, repeat in enumerate(repeats):
            if repeat in projection.repeats:
                progress.note(number, projection.repeats[repeat])
            else:
                self._waiting.append(number)

    def take(self) -> Planned:
        """Returns the next repeat that has not ended."""
        number = self._waiting.pop(0)
        repeat = self._repeats[number]
        seed = seed_of(self._seed, "repeat", repeat.trial, repeat.seed)
        return Planned(number, self._candidates[number], seed)

    def is_exhausted(self) -> bool:
        """Returns whether all repeats have begun."""
        return not self._waiting

    def folder(self, number: int) -> TrialFolder:
        """Returns the folder of a repeat."""
        return self._folder.repeat(self._repeats[number])

    def name(self, number: int) -> str:
        """Returns what a repeat is called."""
        return str(self._repeats[number])

    def enter(self, trial: Planned, result: Result) -> str:
        """Tests what a repeat has left, and enters it in the study's folder and in MLflow."""
        name, files, outcome = self.name(trial.number), self.folder(trial.number), result.outcome
        if outcome.state == "complete":
            network = shipped.unpack(result.files[MODEL_FILE])
            images, labels = self._test.images.split(BATCH), self._test.labels.split(BATCH)
            tested = accuracy(network, zip(images, labels, strict=True))
            outcome = replace(outcome, test_accuracy=tested)
        write_result(files, replace(result, outcome=outcome))
        files.checkpoint.unlink(missing_ok=True)
        self._projection.repeats[self._repeats[trial.number]] = outcome
        self._progress.note(trial.number, outcome)
        self._projection.update()
        if outcome.test_accuracy is None:
            return f"{name} {outcome.state}: {outcome.reason}"
        return f"{name} complete: test accuracy {outcome.test_accuracy:.4f}"

    def update(self) -> None:
        """Brings MLflow up to date."""
        self._projection.update()


def _looks_up(candidate: Candidate) -> bool:
    return candidate.distillation is not None and candidate.distillation.cached
