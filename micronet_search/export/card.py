"""The model card: what is shipped, how to run it, and every measured figure."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from micronet_search.compression.techniques import TECHNIQUES
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml
from micronet_search.config.sweep import Sweep
from micronet_search.export import usage
from micronet_search.export.check import Agreement
from micronet_search.network.precision import Plan
from micronet_search.score.cost import Cost
from micronet_search.score.rules import scores
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import MODEL_FILE

PACKAGES = ("micronet-search", "torch", "onnx", "onnxruntime")

_TEMPLATE = Path(__file__).with_name("card.md")


@dataclass(frozen=True)
class Facts:
    """What a card says, beside what follows from it.

    The cost is measured on the stored tensors, the agreement on the test split; `doubt` says what
    is odd about the test accuracy. `names` are those of the classes, `sizes` the bytes of each
    file.
    """

    sweep: Sweep
    trial: int
    candidate: Candidate
    names: tuple[str, ...]
    outcome: Outcome
    plan: Plan
    cost: Cost
    agreement: Agreement
    doubt: str | None
    sizes: dict[str, int]


def write(facts: Facts) -> str:
    """Returns the card in Markdown, with the front matter that model hubs read."""
    candidate, dataset, cost = facts.candidate, facts.sweep.dataset, facts.cost
    family, folder = candidate.network.family, usage.folder(dataset)
    title = candidate.network.title
    sizes = [(f"`{name}` (bytes)", f"{size:,}") for name, size in facts.sizes.items()]
    weights = [layer.stored[0] for layer in cost.layers if layer.macs]
    return _TEMPLATE.read_text(encoding="utf-8").format(
        facts=facts,
        sweep=facts.sweep,
        dataset=dataset,
        image=candidate.input,
        model=MODEL_FILE,
        tags=dump_yaml({"tags": ["micronet-search", "onnx", family, *tags(candidate)]}),
        family=title[0].upper() + title[1:],
        plural="" if candidate.input.channels == 1 else "s",
        digest=candidate.digest(),
        onnxruntime=_version("onnxruntime"),
        input=usage.describe(candidate.input),
        names=usage.listed(facts.names),
        expected=f", with the dataset's folder `{folder}` beside `model.onnx`" if folder else "",
        example=usage.example(dataset, candidate.input),
        packed=-(-cost.storage_bits // 8),
        sparsity=1.0 - sum(w.nonzeros for w in weights) / sum(w.elements for w in weights),
        figures=_rows([*figures(candidate, facts.plan), *sizes]),
        doubt=f" **But {facts.doubt}.**" if facts.doubt else "",
        scores=_rows(
            (rule, *(f"{part:.6f}" for part in (found.score, found.parameters, found.operations)))
            for rule, found in scores(cost).items()
        ),
        layers=_rows(_layers(cost)),
        folder=f" `{folder}`" if folder else "",
        limit=f", at most {dataset.limit:,} images of each split" if dataset.limit else "",
        trained=_date(facts.outcome.ended),
        exported=_date(time.time()),
        python=platform.python_version(),
        packages=_rows((name, _version(name)) for name in PACKAGES),
    )


def tags(candidate: Candidate) -> Iterator[str]:
    """Yields the names of the techniques that a candidate uses, for model hubs."""
    for technique in TECHNIQUES:
        if technique.has_effect(candidate):
            yield technique.field.replace("_", "-")
    if candidate.distillation:
        yield "distillation"


def figures(candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
    """Yields a line for each technique that is used, and for the widths of the layers."""
    for technique in TECHNIQUES:
        yield from technique.figures(candidate, plan)
    if candidate.distillation is None:
        return
    teacher, distillation = candidate.distillation.teacher, candidate.distillation
    if teacher.network and teacher.training:
        yield "teacher", f"{teacher.network.title}, trained for {teacher.training.epochs} epochs"
    else:
        yield "teacher", f"trial {teacher.trial} of the study `{teacher.study}`"
    yield "temperature of the teacher's outputs", f"{distillation.temperature:g}"
    yield "weight of the teacher's outputs in the loss", f"{distillation.weight:g}"


def _layers(cost: Cost) -> Iterator[tuple[str, ...]]:
    for layer in cost.layers:
        counts = (layer.elements, layer.nonzeros, layer.weight_bits, layer.activation_bits)
        yield layer.name, layer.kind, *(f"{n:,}" for n in (*counts, layer.macs))


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
