"""How to come to the same study again."""

from __future__ import annotations

from micronet_search.config.files import dump_yaml
from micronet_search.report.page.facts import Facts


def commands(facts: Facts) -> list[str]:
    """Returns the commands that run, confirm and ship the study of `sweep.yaml`."""
    found = ["micronet-search run sweep.yaml"]
    if seeds := [max(one.accuracies, default=1) for one in facts.view.confirmations.values()]:
        full = any(one.full_train for one in facts.view.confirmations.values())
        top = f" --top {len(seeds)} --seeds {max(seeds)}"
        found.append(f"micronet-search confirm {facts.name}{top}{' --full-train' if full else ''}")
    if facts.best is not None and facts.best.feasible:
        found.append(f"micronet-search export {facts.name} --best")
    return found


def sweep_text(facts: Facts) -> str:
    """Returns the sweep without what is true of one machine alone, and without any password."""
    return dump_yaml(facts.view.sweep.portable())


def candidate_text(facts: Facts) -> str:
    """Returns the best network's candidate as YAML; nothing where it is not known."""
    if facts.best is None or facts.best.candidate is None:
        return ""
    return dump_yaml(facts.best.candidate.model_dump(mode="json"))


def environment(facts: Facts) -> list[tuple[str, str]]:
    """Returns what the study last ran on."""
    return sorted((facts.start.environment or {}).items())
