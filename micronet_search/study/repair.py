"""What an earlier start of a study left, put back where it belongs."""

import optuna
from optuna.trial import Trial, TrialState

from micronet_search.search.screening import DIGEST, SCREENED
from micronet_search.search.stopping import RUNGS
from micronet_search.study.bases import Bases
from micronet_search.study.draws import Drawn, Draws
from micronet_search.study.ledger import Ledger
from micronet_search.study.rungs import Rungs


def repair(
    study: optuna.Study, ledger: Ledger, draws: Draws, rungs: Rungs, bases: Bases
) -> list[Drawn]:
    """Enters what has ended, and returns the trials that a stop or a crash left unfinished.

    Args:
        study: Optuna's, which says what was drawn.
        ledger: Enters the trials that have ended, and tells Optuna where it does not know.
        draws: Learns which candidates were tried, and takes the draws that were not judged.
        rungs: Learns how trials stood at their rungs.
        bases: Learns which trained networks can be compressed again.
    """
    unfinished: list[Drawn] = []
    for frozen in study.get_trials(deepcopy=False):
        number, known = frozen.number, frozen.user_attrs
        running = Trial(study, frozen._trial_id) if frozen.state == TrialState.RUNNING else None
        if SCREENED in known:
            if running is not None:
                study.tell(number, state=TrialState.PRUNED)
            continue
        if frozen.state == TrialState.WAITING:
            continue
        if DIGEST in known:
            draws.remember(known[DIGEST], number)
        rungs.remember(number, known.get(RUNGS, {}))
        if ledger.replay(number, running):
            bases.add(number)
        elif running is None:
            continue
        elif DIGEST in known:
            unfinished.append(draws.read(running))
        else:
            draws.undecided.append(running)
    ledger.catch_up()
    return unfinished
