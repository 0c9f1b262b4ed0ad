"""Every draw of a study as Optuna stores it, read without the driver's lock."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from micronet_search.config.sweep import Sweep
from micronet_search.search.screening import SCREENED
from micronet_search.store.paths import StudyFolder
from micronet_search.study.storage import reason

FEWEST = 10
"""The complete trials from which PED-ANOVA is asked."""

_TOP = 5  # the trials that it compares with the others, at least
_SCORE = "constraints:score"  # where Optuna keeps what `set_constraint` was given


@dataclass(frozen=True)
class Draw:
    """One draw.

    Attributes:
        params: What was chosen, by the dotted path of the choice, as Optuna stores it.
        screened: Why it was not trained; None for a trial.
        score: Of a draw that was screened by its score: the predicted one.
    """

    params: Mapping[str, Any]
    screened: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class History:
    """The draws of a study by number, and what its choices are worth.

    Attributes:
        worth: The importance of each choice by PED-ANOVA, for `accuracy` and for `score`; together
            they are 1. Empty where too few trials are complete.
    """

    draws: Mapping[int, Draw]
    worth: Mapping[str, Mapping[str, float]]


def read_history(folder: StudyFolder, sweep: Sweep) -> History:
    """Reads the draws of a study, which its driver may be adding to; nothing is written.

    Raises:
        ValueError: The storage cannot be read.
    """
    study = _open(folder, sweep)
    return History(_draws(study, sweep), _worth(study))


def read_draws(folder: StudyFolder, sweep: Sweep) -> dict[int, Draw]:
    """Reads the draws of a study by number, like `read_history`, without what choices are worth."""
    return _draws(_open(folder, sweep), sweep)


def _open(folder: StudyFolder, sweep: Sweep) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = sweep.tracking.optuna
    if not url and not folder.journal.exists():
        raise ValueError(f"found no {folder.journal}, expected Optuna's storage")
    try:
        # a journal that is only read is neither locked nor cut
        storage: BaseStorage = (
            RDBStorage(url, skip_table_creation=True)
            if url
            else JournalStorage(JournalFileBackend(str(folder.journal)))
        )
        study = optuna.load_study(study_name=folder.path.name, storage=storage)
        study.get_trials(deepcopy=False)
    except Exception as error:
        place = "tracking.optuna" if url else str(folder.journal)
        found = f"found: {reason(error, url)}"
        raise ValueError(f"{place}: expected a storage of Optuna's that answers, {found}") from None
    return study


def _draws(study: optuna.Study, sweep: Sweep) -> dict[int, Draw]:
    at_most = sweep.objectives.score.at_most
    return {trial.number: _draw(trial, at_most) for trial in study.get_trials(deepcopy=False)}


def _draw(trial: optuna.trial.FrozenTrial, at_most: float) -> Draw:
    """Returns a draw; its score was told to Optuna as how far it is above the ceiling."""
    message, above = trial.user_attrs.get(SCREENED), trial.system_attrs.get(_SCORE, 0.0)
    score = at_most * (1 + above) if message and message.startswith("predicted score") else None
    return Draw(trial.params, message, score)


def _worth(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Asks PED-ANOVA which choices tell the best trials by each objective from all others."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST or not any(len(trial.distributions) for trial in complete):
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, _TOP / len(complete)))
    targets = {"accuracy": lambda t: -t.values[0], "score": lambda t: t.values[1]}
    with warnings.catch_warnings():  # that it takes the lowest values for the best
        warnings.simplefilter("ignore")
        found = {
            name: get_param_importances(study, evaluator=evaluator, target=target)
            for name, target in targets.items()
        }
    return {
        name: {path: worth if math.isfinite(worth) else 0.0 for path, worth in of.items()}
        for name, of in found.items()
    }
