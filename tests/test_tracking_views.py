"""MLflow's saved views, as its pages read them."""

import json
from typing import Any

from studies import tiny

from micronet_search.config.grammar import parse
from micronet_search.tracking.views import FIRST, STUDY, TAG, views

MOST = 20_000
"""Characters that MLflow takes in such a tag."""


def states(space: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """The name and the state of each view, by its key."""
    found = {}
    for tag, content in views(space, 1_700_000_000_000).items():
        assert len(content) < MOST
        envelope = json.loads(content)
        assert envelope.keys() == {"name", "createdAt", "updatedAt", "state"}
        found[tag.removeprefix(TAG)] = envelope["name"], json.loads(envelope["state"])
    return found


def test_the_choices_that_every_trial_makes() -> None:
    tree = tiny()["candidate"]
    tree["network"] = {"one_of": {"a": tree["network"], "b": {"family": "resnet"}}}
    _, state = states(parse(tree))["choices"]
    assert state["compareRunCharts"][0]["selectedParams"] == [
        "network.one_of",
        "training.learning_rate",
        "pruning.sparsity",
        "quantization.weight_bits",
    ]


def test_views_show_accuracy_score_and_choices_the_cheapest_first() -> None:
    found = states(parse(tiny()["candidate"]))
    assert FIRST in found
    for name, state in found.values():
        assert name
        assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`score`", True)
        columns = state["selectedColumns"]
        assert columns[:2] == ["metrics.`accuracy`", "metrics.`score_millionths`"]
        assert "params.`network.growth_rate`" in columns
        first, *others = state["compareRunSections"]
        assert (first["name"], first["display"]) == (STUDY, True)
        assert not any(section["display"] for section in others)
        assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {first["uuid"]}
    scatter = found["front"][1]["compareRunCharts"][0]
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("score_log10", "accuracy")
