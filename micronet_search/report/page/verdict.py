"""Which network won, and why: the first thing on the page."""

from __future__ import annotations

from micronet_search.config.candidate import Candidate
from micronet_search.report.page.best import accuracies, by_layer
from micronet_search.report.page.facts import Facts
from micronet_search.report.page.words import counted, duration, percent, points, short_names, shown


def headline(facts: Facts) -> str:
    """Returns the answer in one sentence."""
    if facts.best is None:
        return "No trial is complete yet."
    what = described(facts.best.candidate) if facts.best.candidate else "its network"
    number, score = facts.best.number, facts.view.score(facts.best.number)
    figures = f"{percent(facts.accuracy(number))} on the validation split at a score of {score:.4g}"
    if facts.best.confirmed:
        test = percent(facts.view.confirmations[number].mean)
        return f"Trial {number} won: {what}, {test} on the test split at a score of {score:.4g}."
    if facts.best.feasible:
        return f"Trial {number} leads: {what}, {figures}."
    return f"Nothing is feasible yet. Trial {number} is closest: {what}, {figures}."


def described(candidate: Candidate) -> str:
    """Returns a network in a few words."""
    network, bits = candidate.network, candidate.quantization
    text = f"{network.title} of {'+'.join(map(str, network.layers))} layers"
    if bits is None:
        text += " in 32 bits"
    elif bits.weight_bits == bits.activation_bits:
        text += f" in {bits.weight_bits} bits"
    else:
        text += f" with weights of {bits.weight_bits} and inputs of {bits.activation_bits} bits"
    if (pruning := candidate.pruning) is not None and pruning.sparsity:
        text += f", {percent(pruning.sparsity, 0)} of its weights pruned"
    return text


def tiles(facts: Facts) -> list[tuple[str, str]]:
    """Returns the figures of the network by their names, as text."""
    if facts.best is None:
        return []
    number = facts.best.number
    outcome, tested = facts.view.outcomes[number], facts.view.confirmations.get(number)
    found = [(facts.view.score_title, f"{facts.view.score(number):.4g}")]
    if tested and tested.accuracies:
        spread = "" if tested.deviation is None else f" ± {100 * tested.deviation:.2f}"
        seeds = counted(len(tested.accuracies), "seed")
        found.append((f"test accuracy, {seeds}", f"{100 * tested.mean:.2f}{spread} %"))
    found.append(("validation accuracy", percent(facts.accuracy(number))))
    if outcome.storage_bits is not None:
        found.append(("bytes", f"{outcome.storage_bytes:,}"))
    figures = (("nonzeros", outcome.nonzeros), ("MACs for one image", outcome.macs))
    found += [(name, f"{figure:,}") for name, figure in figures if figure is not None]
    if outcome.latency_ms is not None:
        found.append(("latency", f"{outcome.latency_ms:.3g} ms"))
    return found


def reasons(facts: Facts) -> list[str]:
    """Returns why it is this network, a sentence for each reason."""
    if facts.best is None:
        return []
    found = [_rank(facts), _cheaper(facts), _dearer(facts), _cost(facts), _compression(facts)]
    return [text for text in (*found, _choices(facts), _compared(facts)) if text]


def _rank(facts: Facts) -> str:
    assert facts.best is not None
    trials = counted(len(facts.view.outcomes), "trial")
    if facts.best.confirmed:
        sure = [one for one in facts.view.confirmations.values() if one.reaches(facts.view.goal)]
        among = "the only trial that is confirmed"
        if len(sure) > 1:
            among = f"the cheapest of the {len(sure)} trials that are confirmed"
        return f"It is {among} on the test split, out of {trials}."
    if facts.best.feasible:
        return (
            f"It is the cheapest of {len(facts.feasible)} feasible trials out of {trials}. Its "
            "accuracy was chosen on the validation split, and is partly luck until it is confirmed."
        )
    return f"Of {trials} it misses the goals least: {missed(facts)}."


def missed(facts: Facts) -> str:
    """Returns by how much the closest trial misses each goal."""
    assert facts.best is not None
    number = facts.best.number
    accuracy, score = facts.accuracy(number), facts.view.score(number)
    found = []
    if accuracy < facts.view.goal:
        short = points(facts.view.goal - accuracy)
        found.append(f"its accuracy is {short} below {percent(facts.view.goal)}")
    if score > facts.at_most:
        found.append(
            f"its score is {score / facts.at_most:.2f} times the {facts.at_most:g} allowed"
        )
    goal, latency = facts.view.sweep.objectives.latency, facts.view.outcomes[number].latency_ms
    if goal is not None and latency is not None and latency > goal.at_most:
        found.append(f"it takes {latency:.3g} ms in place of {goal.at_most:g}")
    return " and ".join(found) or "it misses none"


def _cheaper(facts: Facts) -> str:
    """Says what the best of the complete trials that are cheaper lacks."""
    assert facts.best is not None
    own = facts.view.score(facts.best.number)
    cheaper = [n for n in facts.complete if facts.view.score(n) < own]
    if not cheaper or not facts.best.feasible:
        return ""
    best = max(cheaper, key=facts.accuracy)
    accuracy, tested = facts.accuracy(best), facts.view.confirmations.get(best)
    text = f"{counted(len(cheaper), 'complete trial')} {'costs' if len(cheaper) == 1 else 'cost'} "
    text += f"less; the most accurate of them, trial {best}, has {percent(accuracy)}"
    if accuracy < facts.view.goal:
        return text + f", {points(facts.view.goal - accuracy)} short of the goal."
    if tested and tested.accuracies:
        return text + f" on the validation split, but {percent(tested.mean)} on the test split."
    return text + ", and was not repeated."


def _dearer(facts: Facts) -> str:
    assert facts.best is not None
    own, accuracy = facts.view.score(facts.best.number), facts.accuracy(facts.best.number)
    dearer = [n for n in facts.view.survey.front if facts.view.score(n) > own]
    dearer = [n for n in dearer if facts.accuracy(n) > accuracy]
    if not dearer or not facts.best.feasible:
        return ""
    following = dearer[0]
    more = facts.view.score(following) / own - 1
    gain = facts.accuracy(following) - accuracy
    return (
        f"The next on the front, trial {following}, costs {percent(more, 0)} more for "
        f"{points(gain)} of validation accuracy."
    )


def _cost(facts: Facts) -> str:
    if facts.best is None or facts.best.cost is None:
        return ""
    rows = by_layer(facts.best.cost, facts.view.sweep.objectives.score.rule)
    total = sum(score.score for _, score in rows)
    computed = sum(score.operations for _, score in rows) / total
    layer, most = max(rows, key=lambda row: row[1].score)
    return (
        f"{percent(computed, 0)} of its score is computation; its dearest layer, {layer.name}, "
        f"makes {percent(most.score / total, 0)}."
    )


def _compression(facts: Facts) -> str:
    found = [pair for pair in accuracies(facts) if pair[0] != "test, mean"]
    if len(found) < 3:
        return ""
    change = found[-1][1] - found[0][1]
    word = "lost" if change < 0 else "gained"
    return (
        f"After its fit it had {percent(found[0][1])}; all that followed, up to the network as "
        f"stored, {word} {points(change)}."
    )


def _choices(facts: Facts) -> str:
    assert facts.best is not None
    draw, worth = facts.history.draws.get(facts.best.number), facts.history.worth
    if draw is None or not worth:
        return ""
    names, said = short_names(draw.params), []
    for objective, of in worth.items():
        known = [path for path in of if path in draw.params]
        if known:
            top = max(known, key=lambda path: of[path])
            said.append(f"{names[top]} for the {objective} (here {shown(draw.params[top])})")
    return f"What decides most is {' and '.join(said)}." if said else ""


def _compared(facts: Facts) -> str:
    """Compares its score with that of the cheapest known result."""
    assert facts.best is not None
    if not facts.known or not facts.best.feasible:
        return ""
    known = min(facts.known, key=lambda one: one.score)
    ratio = facts.view.score(facts.best.number) / known.score
    return f"Its score is {ratio:.2g} times that of {known.name} ({percent(known.accuracy, 1)})."


def state(facts: Facts) -> str:
    """Returns how far the study is."""
    search, counts = facts.view.sweep.search, list[str]()
    ended = {"complete": facts.complete, "stopped": facts.stopped, "failed": facts.failed}
    counts += [f"{len(numbers)} {name}" for name, numbers in ended.items() if numbers]
    screened = sum(draw.screened is not None for draw in facts.history.draws.values())
    counts += [f"{screened} draws screened"] if screened else []
    counts += [f"{len(facts.view.unfinished)} unfinished"] if facts.view.unfinished else []
    text = f"{len(facts.view.outcomes)} of {counted(search.trials, 'trial')}"
    text += f" ({', '.join(counts)})" if counts else ""
    if facts.seconds is not None:
        text += f", {duration(facts.seconds)} of the driver"
    goals = facts.view.sweep.objectives
    text += (
        f". Goals: accuracy of at least {percent(facts.view.goal)}, {goals.score.rule} score of "
    )
    text += f"at most {facts.at_most:g}"
    return text + (f", {goals.latency.at_most:g} ms at most." if goals.latency else ".")
