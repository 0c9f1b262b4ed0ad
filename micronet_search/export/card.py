"""The model card: what is shipped, how to run it, and every measured figure."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from micronet_search.compression.technique import techniques
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml
from micronet_search.config.network import Input
from micronet_search.config.sweep import Sweep
from micronet_search.export import origin
from micronet_search.export.check import Agreement
from micronet_search.export.onnx_size import OnnxSize
from micronet_search.export.snippets import example, folder_of
from micronet_search.network.precision import Plan
from micronet_search.scoring.cost import Cost, Layer
from micronet_search.scoring.rules import scores
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import MODEL_FILE, Repeat
from micronet_search.study.confirmation import Confirmation, wilson

_LAYER = ("elements", "nonzeros", "weight_bits", "activation_bits", "macs")
_ARITHMETIC = """\
* The scores count products of integers. ONNX Runtime and PyTorch compute with the same integers
  in floating point: the time and the energy that integers save need other software or hardware."""
_TAKEN = {
    "latency_ms": "one image (ms)",
    "latency_256_ms": "256 images at once (ms)",
    "memory_bytes": "memory for one image (MiB)",
    "memory_256_bytes": "memory for 256 images (MiB)",
    "onnx_bytes": "the file (MiB)",
}
_TOO = "; those for validation were trained on too"
_TEMPLATE = Path(__file__).with_name("card.md")


@dataclass(frozen=True)
class Facts:
    """What a card says, beside what follows from it.

    Attributes:
        names: Those of the classes.
        cost: That of the stored tensors.
        agreement: That on the test split.
        doubt: About the test accuracy.
        sizes: The bytes of each file, by its name.
        runtime: What `runtime.latency.measure` says.
        onnx: What the ONNX file is made of.
        splits: How many images were for `training`, `validation` and `test`.
        repeat: Which training of the trial's candidate it is; None for the trial's own.
        confirmation: What the repeats of the trial say, if it was repeated.
        environment: What the study ran on, where that is known.
        chosen: The options of `export` that chose it.
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
    runtime: dict[str, float]
    onnx: OnnxSize
    splits: dict[str, int]
    repeat: Repeat | None = None
    confirmation: Confirmation | None = None
    environment: dict[str, str] | None = None
    chosen: str = "--front"


def write(facts: Facts) -> str:
    """Returns the card in Markdown, with the front matter that model hubs read."""
    candidate, dataset = facts.candidate, facts.sweep.dataset
    family, folder = candidate.network.family, folder_of(dataset)
    title, image = candidate.network.title, candidate.input
    return _TEMPLATE.read_text(encoding="utf-8").format(
        **_measured(facts),
        **_origin(facts),
        facts=facts,
        sweep=facts.sweep,
        dataset=dataset,
        image=image,
        shape=(1, image.channels, image.height, image.width),
        model=MODEL_FILE,
        tags=dump_yaml({"tags": ["micronet-search", "onnx", family, *tags(candidate)]}),
        family=title[0].upper() + title[1:],
        plural="" if image.channels == 1 else "s",
        digest=candidate.digest(),
        onnxruntime=origin.version("onnxruntime"),
        input=_described(image),
        names=json.dumps(facts.names, ensure_ascii=False),
        expected=f", with the dataset's folder `{folder}` beside `model.onnx`" if folder else "",
        example=example(dataset, image),
        interval=_interval(*wilson(facts.agreement.onnx_accuracy, facts.agreement.images)),
        confirmed=_confirmed(facts.confirmation, facts.sweep.objectives.accuracy.at_least),
        certainty=_certainty(facts),
        doubt=f" **But {facts.doubt}.**" if facts.doubt else "",
        folder=f" `{folder}`" if folder else "",
        limit=f", at most {dataset.limit:,} images of each split" if dataset.limit else "",
    )


def _measured(facts: Facts) -> dict[str, Any]:
    """Returns what the card says on the stored tensors, and on the files that hold them."""
    cost = facts.cost
    sizes = [(f"`{name}` (bytes)", f"{size:,}") for name, size in facts.sizes.items()]
    weights = [layer.stored[0] for layer in cost.layers if layer.macs]
    return {
        "packed": cost.storage_bytes,
        "sparsity": 1.0 - sum(w.nonzeros for w in weights) / sum(w.elements for w in weights),
        "figures": _rows([*figures(facts.candidate, facts.plan), *sizes]),
        "taken": _rows(_taken(facts.runtime)),
        "scores": _rows(
            (rule, *(f"{part:.6f}" for part in (one.score, one.parameters, one.operations)))
            for rule, one in scores(cost).items()
        ),
        "layers": _rows(map(_layer, cost.layers)),
        "arithmetic": _ARITHMETIC if cost.integer else "",
    }


def _origin(facts: Facts) -> dict[str, str]:
    """Returns what the card says on where the network comes from."""
    trial, repeat, found = facts.trial, facts.repeat, facts.environment or {}
    again = origin.commands(facts.sweep.name, trial, repeat, facts.confirmation, facts.chosen)
    seed = origin.seed(facts.sweep.search.seed, trial, repeat)
    images = ", ".join(f"{count:,} for {split}" for split, count in facts.splits.items())
    return {
        "commands": "\n".join(again),
        "images": images + _TOO * (repeat is not None and repeat.full_train),
        "origin": f"{repeat or trial}; its randomness comes from the seed {seed}",
        "trained": _date(facts.outcome.ended),
        "commit": origin.commit(found),
        "exported": _date(time.time()),
        "packages": _rows(origin.versions(found)),
    }


def _confirmed(found: Confirmation | None, goal: float) -> str:
    """Returns a sentence on the repeats of the trial."""
    if found is None or not found.accuracies:
        return "The candidate was trained once: `micronet-search confirm` says how sure that is."
    spread = "" if found.deviation is None else f", standard deviation {found.deviation:.2%}"
    verdict = "confirmed" if found.reaches(goal) else "not confirmed"
    count = len(found.accuracies)
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    images = "all training images" if found.full_train else "the training images"
    return (
        f"Trained on {images} with {seeds}, the candidate has a mean test "
        f"accuracy of {found.mean:.2%}{spread}, 95 % interval {_interval(*found.interval)}: it is "
        f"{verdict} for the goal of {goal:.2%}."
    )


def _certainty(facts: Facts) -> str:
    """Returns sentences on what to expect of another training."""
    found, goal = facts.confirmation, facts.sweep.objectives.accuracy.at_least
    if found is None or not found.reaches(goal):
        return f"It is not confirmed: another training may miss the goal of {goal:.2%}."
    median = "; of its trainings, this is the one of the median accuracy" if facts.repeat else ""
    return f"The candidate is confirmed on them{median}."


def _taken(runtime: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    """Yields what the ONNX file takes to run, and the network in floats."""
    for name, title in _TAKEN.items():
        if name in runtime:
            size = 1 if name.endswith("ms") else 2**20
            own, floats = (runtime[key] / size for key in (name, f"float_{name}"))
            yield title, _digits(own), _digits(floats)


def _digits(figure: float) -> str:
    """Returns a figure with three digits, or all of those before the point."""
    return f"{figure:.3g}" if figure < 100 else f"{figure:,.0f}"


def _interval(low: float, high: float) -> str:
    return f"{low:.2%} to {high:.2%}"


def _layer(layer: Layer) -> tuple[str, ...]:
    return layer.name, layer.kind, *(f"{figure:,}" for figure in attrgetter(*_LAYER)(layer))


def tags(candidate: Candidate) -> Iterator[str]:
    """Yields the names of the techniques that a candidate uses, for model hubs."""
    for technique in techniques():
        if technique.has_effect(candidate):
            yield technique.field.replace("_", "-")
    if candidate.distillation:
        yield "distillation"


def figures(candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
    """Yields a line for each technique that is used, and for the widths of the layers."""
    for technique in techniques():
        yield from technique.figures(candidate, plan)
    if (start := candidate.start) is not None:
        yield "continued from", f"trial {start.trial} of the study `{start.study}`"
    if candidate.distillation is None:
        return
    teacher, distillation = candidate.distillation.teacher, candidate.distillation
    if teacher.network and teacher.training:
        yield "teacher", f"{teacher.network.title}, trained for {teacher.training.epochs} epochs"
    else:
        yield "teacher", f"trial {teacher.trial} of the study `{teacher.study}`"
    yield "temperature of the teacher's outputs", f"{distillation.temperature:g}"
    yield "weight of the teacher's outputs in the loss", f"{distillation.weight:g}"


def metadata(image: Input, names: tuple[str, ...]) -> dict[str, str]:
    """Returns what the ONNX file says about its input and output.

    The keys that begin with `Image.` are those that ONNX defines for inputs that are images.
    """
    return {
        "input": _described(image),
        "Image.BitmapPixelFormat": "Gray8" if image.channels == 1 else "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
        "classes": json.dumps(names, ensure_ascii=False),
    }


def _described(image: Input) -> str:
    shape = f"N x {image.channels} x {image.height} x {image.width}"
    channels = "grayscale" if image.channels == 1 else "channels red, green, blue"
    return f"uint8, {shape} (images, channels, height, width), pixels from 0 to 255, {channels}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
