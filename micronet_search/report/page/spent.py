"""Where the time of a study went."""

from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import Figure, Trace, fill
from micronet_search.report.page.words import counted, duration, percent

_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
_LOOKS = {"complete": ("@front", ""), "stopped": ("@win", "/"), "failed": ("@goal", "x")}


def spent(facts: Facts) -> Figure | None:
    """Draws the seconds of each stage over all trials, by how the trials ended."""
    outcomes, repeats = facts.view.outcomes.values(), facts.repeats.values()
    found: dict[str, dict[str, float]] = {state: {} for state in _LOOKS}
    stages: dict[str, None] = {}
    for outcome in outcomes:
        for stage, seconds in outcome.seconds.items():
            stages[stage] = None
            own = found[outcome.state]
            own[stage] = own.get(stage, 0.0) + seconds
    confirming = sum(sum(outcome.seconds.values()) for outcome in repeats)
    total = sum(sum(own.values()) for own in found.values())
    if not total:
        return None
    most = max([sum(own.get(s, 0.0) for own in found.values()) for s in stages] + [confirming])
    length, unit = next((pair for pair in _UNITS if most >= pair[0]), _UNITS[-1])
    names = [*stages, *(["confirm"] if confirming else [])][::-1]
    traces: list[Trace] = []
    for state, (color, pattern) in _LOOKS.items():
        if own := found[state]:
            traces.append(_bars(names, own, length, state, color, pattern))
    if confirming:
        traces.append(_bars(names, {"confirm": confirming}, length, "repeats", "@grey", "."))
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": unit}},
        "yaxis": {"automargin": True, "type": "category"},
    }
    height = 150 + 34 * len(names)
    stage = max(stages, key=lambda s: sum(own.get(s, 0.0) for own in found.values()))
    share = sum(own.get(stage, 0.0) for own in found.values()) / total
    note = f"{counted(len(outcomes), 'trial')} took {duration(total)} of slots' time, "
    note += f"{percent(share, 0)} of it for {stage}"
    if facts.stopped:
        note += f"; {duration(sum(found['stopped'].values()))} went to trials that were stopped"
    if confirming:
        note += f"; {counted(len(repeats), 'repeat')} took {duration(confirming)}"
    return Figure("spent", "Where the time went", note + ".", traces, layout, height, wide=True)


def _bars(
    names: list[str], own: dict[str, float], length: int, name: str, color: str, pattern: str
) -> Trace:
    hover = f"%{{y}}: %{{x:.2f}}<extra>{name}</extra>"
    values = [round(own.get(stage, 0.0) / length, 4) for stage in names]
    bar = {"type": "bar", "orientation": "h", "name": name, "x": values, "y": names}
    return bar | {"marker": fill(color, pattern), "hovertemplate": hover}
