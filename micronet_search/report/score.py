"""The score of the network in a file, whatever the file is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from micronet_search.report.tables import cost_json, cost_lines
from micronet_search.scoring.cost import Cost


@dataclass(frozen=True)
class Scored:
    """The cost of a network, and where it comes from.

    Attributes:
        kind: Predicted from a candidate, or measured on the tensors that a file holds.
        cost: The layer table.
        uncounted: How many nodes there are of each operator whose cost is not known. With any,
            every score is a lower bound.
        notes: What the file does not tell, and what was made of it, a line each.
    """

    kind: Literal["predicted", "measured"]
    cost: Cost
    uncounted: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Returns the total cost in words, the scores, and what is to be said of them."""
        total, *scores = cost_lines(self.cost)
        return [f"{self.kind}: {total}", *scores, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain values."""
        rest = {"uncounted": dict(self.uncounted), "notes": list(self.notes)}
        return {"kind": self.kind, **cost_json(self.cost), **rest}


def _predict(path: Path) -> Scored:
    from micronet_search import build
    from micronet_search.config.files import load_untrained

    return Scored("predicted", build.predict(load_untrained(path)))


def _measure_graph(path: Path) -> Scored:
    from micronet_search.scoring.graphs.measure import measure

    found = measure(path)
    return Scored("measured", found.cost, found.uncounted, found.notes)


def _measure_packed(path: Path) -> Scored:
    from micronet_search.scoring.packed import measure

    note = "parameters are those in the file: what was folded or removed before is not known"
    return Scored("measured", measure(path), notes=(note,))


READERS: Mapping[str, Callable[[Path], Scored]] = {
    ".yaml": _predict,
    ".yml": _predict,
    ".onnx": _measure_graph,
    ".mnz": _measure_packed,
}
"""What scores the network in a file, by the end of its name."""


def score(path: Path) -> Scored:
    """Scores the network in a file.

    Raises:
        OSError: There is no such file.
        ValueError: The file is of another kind, or damaged.
    """
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: expected a file whose name ends in {', '.join(READERS)}")
    return READERS[path.suffix.lower()](path)
