"""What made a network smaller, in the words of the model card."""

from __future__ import annotations

from collections.abc import Iterator

from micronet_search.compression.techniques import TECHNIQUES
from micronet_search.config.candidate import Candidate
from micronet_search.config.training import Distillation
from micronet_search.network.precision import Plan


def tags(candidate: Candidate) -> Iterator[str]:
    """Yields the names of the techniques that a candidate uses, for model hubs."""
    for technique in TECHNIQUES:
        if technique.has_effect(candidate):
            yield technique.field.replace("_", "-")
    if candidate.distillation:
        yield "distillation"


def figures(candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
    """Yields a line for each technique that is used, and for the widths.

    Args:
        candidate: What was evaluated.
        plan: The widths of its layers.
    """
    for technique in TECHNIQUES:
        yield from technique.figures(candidate, plan)
    if candidate.distillation:
        yield from _teacher(candidate.distillation)


def _teacher(distillation: Distillation) -> Iterator[tuple[str, str]]:
    teacher = distillation.teacher
    if teacher.network and teacher.training:
        yield "teacher", f"{teacher.network.title}, trained for {teacher.training.epochs} epochs"
    else:
        yield "teacher", f"trial {teacher.trial} of the study `{teacher.study}`"
    yield "temperature of the teacher's outputs", f"{distillation.temperature:g}"
    yield "weight of the teacher's outputs in the loss", f"{distillation.weight:g}"
