"""MLflow's saved views of a study: columns, filters, orders and charts of its table of runs.

MLflow keeps them as tags of the experiment, in a form of its own that may change: a version that
does not know it shows its own columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from micronet_search.config.distributions import leaves
from micronet_search.tracking import notes
from micronet_search.tracking.facts import ACCURACY, LOSS

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
_KIND = "custom_model_development"  # what MLflow calls pages that are not for language models
FIRST = "trials"
"""The view that is opened first."""

MOST_CHOICES = 5
_TRIALS = "tags.trial LIKE '%'"
STUDY = "Study"
"""The section of our charts; those of MLflow's own are folded."""

_METRICS = ("validation", "train", "score", "cost", "seconds", "test", "runtime")
_GROUPS = (*_METRICS, "Model metrics", "System metrics")


def views(space: Mapping[str, Any], created: int) -> dict[str, str]:
    """Returns the tags of an experiment, by their names.

    Args:
        space: The tree of the candidate, with its distributions.
        created: When the study was recorded first, in milliseconds.
    """
    # those of a branch are not made by every trial
    choices = [path for path, (_, branches) in leaves(space).items() if not branches]
    columns = ["metrics.`accuracy`", "metrics.`score_millionths`", "tags.`front`"]
    columns += [f"params.`{path}`" for path in choices[:MOST_CHOICES]]
    scatter = _scatter()
    curves = _line(ACCURACY, "Accuracy on the validation split"), _line(LOSS, "Loss")
    states: dict[str, tuple[str, str, dict[str, Any]]] = {
        FIRST: ("Trials", _TRIALS, _charts(scatter, _parallel(choices))),
        "front": ("Front", "tags.front = 'true'", _charts(scatter)),
        "feasible": ("Feasible", "tags.feasible = 'true'", _charts(scatter)),
        "stopped": ("Stopped", "tags.state = 'stopped'", _charts(curves[0])),
        "curves": ("Learning curves", _TRIALS, _charts(*curves)),
        "choices": (
            "Choices",
            f"{_TRIALS} AND tags.state = 'complete'",
            _charts(_parallel(choices), scatter),
        ),
        "repeats": ("Repeats", "tags.confirm = 'true'", _charts(_bar("test_accuracy"))),
    }
    order = {"orderByKey": "metrics.`score`", "orderByAsc": True}
    found = {}
    for key, (name, filters, charts) in states.items():
        state = {"searchFilter": filters, **order, "selectedColumns": columns, **charts}
        state["runsHiddenMode"] = "SHOW_ALL"
        content = {"name": name, "createdAt": created, "updatedAt": created}
        found[TAG + key] = json.dumps(content | {"state": json.dumps(state)})
    return found


def arrange(client: MlflowClient, experiment: str, space: Mapping[str, Any], created: int) -> None:
    """Describes the experiment of a study, and gives it its views, unless it has them.

    The arguments are those of `views`.
    """
    wanted = views(space, created)
    wanted |= {notes.NOTE: notes.EXPERIMENT, "mlflow.experimentKind": _KIND}
    known = client.get_experiment(experiment).tags
    for name, value in wanted.items():
        if known.get(name) != value:
            client.set_experiment_tag(experiment, name, value)


def _charts(*charts: dict[str, Any]) -> dict[str, Any]:
    common = {"metricSectionId": STUDY.lower(), "deleted": False, "isGenerated": False}
    cards = [chart | common | {"uuid": f"chart{i}"} for i, chart in enumerate(charts)]
    # MLflow adds a section for each group of metrics, before ours unless they are there
    sections = [
        {"uuid": name.lower(), "name": name, "display": name == STUDY, "isReordered": True}
        for name in (STUDY, *_GROUPS)
    ]
    sections[0] |= {"columns": 1, "cardHeight": 420}
    order = {"isAccordionReordered": True}
    return {"compareRunCharts": cards, "compareRunSections": sections, **order}


def _scatter() -> dict[str, Any]:
    """Accuracy over the score, whose axis MLflow cannot make logarithmic."""
    axes = {"xaxis": "score_log10", "yaxis": "accuracy"}
    keys = {axis: {"key": key, "type": "METRIC"} for axis, key in axes.items()}
    return {"type": "SCATTER", "runsCountToCompare": 100, **keys}


def _line(metric: str, title: str) -> dict[str, Any]:
    scale = {"scaleType": "linear", "xAxisKey": "step", "xAxisScaleType": "linear"}
    keys = {"metricKey": metric, "selectedMetricKeys": [metric], "displayName": title}
    return {"type": "LINE", "runsCountToCompare": 20, "lineSmoothness": 0, **keys, **scale}


def _parallel(choices: Sequence[str]) -> dict[str, Any]:
    """Choices beside both objectives; MLflow leaves out runs that lack one of them."""
    shown = {"selectedParams": list(choices), "selectedMetrics": ["score_log10", "accuracy"]}
    return {"type": "PARALLEL", "runsCountToCompare": 100, "showAllRuns": True, **shown}


def _bar(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "runsCountToCompare": 20, "metricKey": metric}
