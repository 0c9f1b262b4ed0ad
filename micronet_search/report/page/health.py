"""How healthy a search is: sentences with numbers, and what to change in the sweep."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from micronet_search.config.distributions import Choices, Distribution, Range, leaves
from micronet_search.report.page.facts import Facts
from micronet_search.report.page.verdict import missed
from micronet_search.report.page.words import counted, duration, listed, percent, points, shown
from micronet_search.study.survey import leaders, stagnant_trials

_ENOUGH = 20
"""The complete trials from which a choice is called one that does not matter."""

_EDGE, _SHARE, _LEAST = 0.1, 2 / 3, 0.05


@dataclass(frozen=True)
class Line:
    """One line: whether it is well, worth knowing, or to be acted on; and what it says."""

    kind: Literal["well", "note", "act"]
    text: str


def health(facts: Facts) -> list[Line]:
    """Returns the lines of a study, those to be acted on first."""
    found = [line for check in _CHECKS for line in check(facts)]
    return sorted(found, key=lambda line: ("act", "note", "well").index(line.kind))


def feasibility(facts: Facts) -> Iterator[Line]:
    """Says whether there is a feasible trial, and how far off the closest is."""
    if facts.feasible:
        share = percent(len(facts.feasible) / len(facts.complete), 0)
        found = (
            f"{counted(len(facts.feasible), 'trial')} of {len(facts.complete)} that are complete"
        )
        yield Line("well", f"{found} reach every goal ({share}).")
    elif facts.best is not None:
        number, accuracy = facts.best.number, facts.accuracy(facts.best.number)
        change = "Lower objectives.accuracy.at_least" if accuracy < facts.view.goal else ""
        if facts.view.score(number) > facts.at_most:
            change = "Raise objectives.score.at_most"
        yield Line(
            "act",
            f"Nothing is feasible. The closest, trial {number}, has {percent(accuracy)} at a score "
            f"of {facts.view.score(number):.4g}: {missed(facts)}. "
            f"{change or 'Raise objectives.latency.at_most'}, train longer (training.epochs), or "
            "open the ranges of `candidate`.",
        )


def edges(facts: Facts) -> Iterator[Line]:
    """Says where the front presses against the end of a range."""
    objectives, draws = facts.view.sweep.objectives, facts.history.draws
    numbers = [n for n in leaders(facts.view.outcomes, objectives) if n in draws]
    if len(numbers) < 3:
        return
    whose = "on the front" if facts.view.survey.front else "that no other trial beats"
    for path, (of, _) in leaves(facts.view.sweep.space).items():
        options, place = _ordered(of)
        taken = [draws[n].params[path] for n in numbers if path in draws[n].params]
        if len(options) < 2 or len(taken) < 3:
            continue
        places = [place(value) for value in taken]
        at_low, at_high = sum(at <= _EDGE for at in places), sum(at >= 1 - _EDGE for at in places)
        for end, count in ((options[0], at_low), (options[-1], at_high)):
            if count >= max(3, _SHARE * len(taken)):
                word, beyond = ("low", "below") if end == options[0] else ("high", "above")
                yield Line(
                    "act",
                    f"{count} of the {len(taken)} trials {whose} have {path} at its {word} end, "
                    f"{shown(end)} (of {shown(options[0])} to {shown(options[-1])}): let it go "
                    f"{beyond} {shown(end)}.",
                )


def _ordered(of: Distribution) -> tuple[list[Any], Callable[[Any], float]]:
    """Returns a choice's numbers from low to high, and where a value is between them, 0 to 1.

    Those of a choice that has no order are none.
    """
    if isinstance(of, Range):
        if of.low == of.high:
            return [], lambda value: 0.5
        turn = math.log if of.log else float
        low, span = turn(of.low), turn(of.high) - turn(of.low)
        return [of.low, of.high], lambda value: (turn(value) - low) / span
    numbers = [v for v in of.options() if isinstance(v, int | float) and not isinstance(v, bool)]
    if not isinstance(of, Choices) or len(numbers) < max(3, len(of.values)):
        return [], lambda value: 0.5
    order = sorted(numbers)
    return order, lambda value: order.index(value) / (len(order) - 1)


def screening(facts: Facts) -> Iterator[Line]:
    """Says how many draws were screened and what that saved."""
    reasons = [draw.screened for draw in facts.history.draws.values() if draw.screened]
    if not reasons:
        return
    kinds = Counter(" ".join(reason.split()[:2]) for reason in reasons)
    by_score, twice = kinds["predicted score"], kinds["the same"]
    share = len(reasons) / len(facts.history.draws)
    text = f"{counted(len(reasons), 'draw')} of {len(facts.history.draws)} "
    text += f"({percent(share, 0)}) were screened: {by_score} by the predicted score, {twice} as "
    text += f"duplicates, {len(reasons) - by_score - twice} that make no candidate."
    if facts.complete and by_score:
        typical = statistics.median(map(facts.seconds_of, facts.complete))
        text += f" That saved about {duration(by_score * typical)} of training."
    if share <= 0.5:
        yield Line("well", text)
    elif by_score >= twice:
        change = "Raise objectives.score.at_most, or narrow `candidate` to cheaper networks."
        yield Line("note", f"{text} {change}")
    else:
        yield Line("note", f"{text} The space is nearly exhausted: search more of `candidate`.")


def stopping(facts: Facts) -> Iterator[Line]:
    """Says what stopping at rungs saved."""
    if not facts.stopped or not facts.complete:
        return
    typical = statistics.median(map(facts.seconds_of, facts.complete))
    took = sum(map(facts.seconds_of, facts.stopped))
    saved = len(facts.stopped) * typical - took
    text = (
        f"{counted(len(facts.stopped), 'trial')} of {len(facts.view.outcomes)} were stopped early "
    )
    text += f"and took {duration(took)}."
    if saved > 0:
        whole = saved + sum(map(facts.seconds_of, facts.view.outcomes))
        text += f" In full they would have taken about {duration(saved)} more: stopping saved "
        yield Line("well", f"{text}{percent(saved / whole, 0)} of the study's training.")
    else:
        change = "search.early_stopping brings nothing here: leave it out."
        yield Line("act", f"{text} They took as long as complete ones: {change}")


def failures(facts: Facts) -> Iterator[Line]:
    """Says how many trials failed, and why the last did."""
    if facts.failed:
        last = facts.view.outcomes[facts.failed[-1]].reason or "no reason is known"
        text = f"{counted(len(facts.failed), 'trial')} failed; the last, trial {facts.failed[-1]}: "
        text += f"{last[:200]}."
        act = len(facts.failed) > 0.1 * len(facts.view.outcomes)
        yield Line("act" if act else "note", text)


def indifference(facts: Facts) -> Iterator[Line]:
    """Says which choices do not matter."""
    worth = facts.history.worth
    if len(facts.complete) < _ENOUGH or not worth:
        return
    paths = [
        path for path in leaves(facts.view.sweep.space) if any(path in of for of in worth.values())
    ]
    idle = [path for path in paths if all(of.get(path, 0.0) < _LEAST for of in worth.values())]
    if idle and len(idle) < len(paths):
        are = "is" if len(idle) == 1 else "are each"
        yield Line(
            "note",
            f"{listed(idle)} {are} worth less than {percent(_LEAST, 0)} for accuracy and for "
            "score: fix what does not matter, and the search has fewer choices to learn.",
        )


def growth(facts: Facts) -> Iterator[Line]:
    """Says whether the front still grows."""
    view = facts.view
    if not view.survey.front:
        return
    since = stagnant_trials(view.survey, view.outcomes, view.sweep.objectives)
    if since >= max(10, 0.5 * len(view.outcomes)):
        change = "more trials of this sweep will bring little; change the space or the epochs."
        yield Line("note", f"The hypervolume has not grown over the last {since} trials: {change}")
    elif since <= 0.1 * len(view.outcomes):
        text = f"The hypervolume grew within the last {counted(since + 1, 'trial')}: "
        yield Line("note", f"{text}a greater search.trials is likely to bring more.")


def confirming(facts: Facts) -> Iterator[Line]:
    """Says whether what was found is confirmed, and how lucky the search's accuracies were."""
    if facts.best is None or not facts.best.feasible:
        return
    found = facts.view.confirmations
    if not found:
        command = f"`micronet-search confirm {facts.name}` tests the front with other seeds."
        yield Line("act", f"No trial is confirmed yet: {command}")
    elif not facts.best.confirmed:
        means = max(one.mean for one in found.values())
        text = f"{counted(len(found), 'trial')} were repeated and none is confirmed: the best mean "
        text += f"test accuracy is {percent(means)}, the goal {percent(facts.view.goal)}. "
        yield Line("act", f"{text}Ask for more in the search than you need, or train longer.")
    else:
        own = found[facts.best.number]
        luck = facts.accuracy(facts.best.number) - own.mean
        text = f"Trial {facts.best.number} is confirmed by {counted(len(own.accuracies), 'seed')}; "
        text += f"its accuracy in the search was {points(luck)} "
        yield Line("well", f"{text}{'above' if luck > 0 else 'below'} the test's mean.")


_CHECKS: tuple[Callable[[Facts], Iterator[Line]], ...] = (
    feasibility,
    confirming,
    edges,
    screening,
    stopping,
    failures,
    indifference,
    growth,
)
