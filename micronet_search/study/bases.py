"""Networks that are trained once and compressed several times."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping

import optuna
from optuna.trial import Trial

from micronet_search import build
from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate, Fitted
from micronet_search.config.compression import Compression
from micronet_search.config.files import load_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.search.encoding import Parameters, pick_stored
from micronet_search.store.files import write_bytes
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import StudyFolder
from micronet_search.study.draws import Drawn
from micronet_search.trial import fitted
from micronet_search.trial.stages import FIT, stages

BASE = "base"
"""The attribute of a trial in Optuna that names the trial whose fitted network it compresses."""

ASKED_FOR = "compression_of"
"""The attribute of a draw in Optuna that was asked for to compress a base once more."""


class Bases:
    """Lets trials of a study compress the trained network of another trial, their base.

    A complete trial that has trained its own network is a base. Draws are enqueued that have its
    choices of the network and of the training; the sampler makes the choices of compression. A
    trial that would train the network of a base a second time begins at the end of the base's first
    fit.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: optuna.Study,
        folder: StudyFolder,
        outcomes: Mapping[int, Outcome],
    ) -> None:
        """Starts without any base.

        Args:
            sweep: Says how often each network is compressed.
            study: Optuna's, in which draws are enqueued.
            folder: The study's folder, with the networks.
            outcomes: Of the trials that have ended; it may grow.
        """
        self._space, self._study, self._folder = sweep.space, study, folder
        self._outcomes = outcomes
        self._more = sweep.search.compressions_per_network - 1
        self._bases: dict[str, int] = {}
        self._asked = Counter(
            trial.user_attrs[ASKED_FOR]
            for trial in (study.get_trials(deepcopy=False) if self._more else ())
            if ASKED_FOR in trial.user_attrs
        )

    def add(self, number: int) -> None:
        """Notes a trial that has ended if it is a base, and enqueues its missing compressions."""
        files, outcome = self._folder.trial(number), self._outcomes[number]
        if not self._more or outcome.state != "complete" or outcome.base is not None:
            return
        if not files.fitted.exists():  # a version that did not leave it
            return
        self._bases.setdefault(_key(load_candidate(files.candidate)), number)
        fixed = self._fixed(self._study.get_trials(deepcopy=False)[number].params)
        for _ in range(self._asked[number], self._more):
            self._study.enqueue_trial(fixed, user_attrs={ASKED_FOR: number})
        self._asked[number] = max(self._more, self._asked[number])

    def lend(self, drawn: Drawn) -> None:
        """Lets a trial that is new begin at the end of the first fit of its base, if it has one."""
        files = self._folder.trial(drawn.number)
        if not self._more or files.checkpoint.exists():
            return
        if (number := self._bases.get(_key(drawn.candidate))) is None:
            return
        rows = [row for row in self._outcomes[number].curve if row.stage == FIT]
        try:
            content = fitted.checkpoint_of(self._folder.trial(number).fitted.read_bytes(), rows)
        except (OSError, ValueError):
            return  # without the file of its base it trains its own network
        drawn.trial.set_user_attr(BASE, number)
        write_bytes(files.checkpoint, content)

    def _fixed(self, params: Parameters) -> Parameters:
        """Returns the choices that are not of compression."""
        drawn = distributions.draw(self._space, pick_stored(params))
        free = Compression.model_fields.keys()
        return {path: params[path] for path, key in drawn.picks.items() if not free & {*key[:1]}}


def check(sweep: Sweep) -> None:
    """Checks that a network can be compressed in several ways where the sweep asks for that.

    Raises:
        ValueError: No choice of compression is left open.
    """
    asked, names = sweep.search.compressions_per_network, Compression.model_fields.keys()
    searched = [path for path in distributions.leaves(sweep.space) if names & {*path.split(".")}]
    if asked > 1 and not searched:
        raise ValueError(
            f"search.compressions_per_network: found {asked} and no choice in "
            f"{', '.join(names)}, expected such a choice, or 1 compression"
        )


def base_of(trial: Trial) -> int | None:
    """Returns the number of the trial whose fitted network a trial compresses, if there is one."""
    number: int | None = trial.user_attrs.get(BASE)
    return number


def _key(candidate: Candidate) -> str:
    """Returns what the fitted network of a candidate follows from, apart from the seed.

    Where the learning rate spans the whole trial, the number of its epochs is part of that.
    """
    parts = candidate.model_dump(mode="json", include=set(Fitted.model_fields))
    if candidate.training.span == "trial":
        parts["all_epochs"] = stages(candidate, build.planned(candidate)[0])[-1].end
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
