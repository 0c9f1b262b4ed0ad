"""The model card: what is shipped, how to run it, and every measured figure."""

import json
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from pathlib import Path

from micronet_search.compression.technique import techniques
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml
from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset, Sweep
from micronet_search.export.check import Agreement
from micronet_search.network.precision import Plan
from micronet_search.score.cost import Cost, Layer
from micronet_search.score.rules import scores
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import MODEL_FILE
from micronet_search.study.confirmation import Confirmation, wilson

PACKAGES = ("micronet-search", "torch", "onnx", "onnxruntime")
_LAYER = ("elements", "nonzeros", "weight_bits", "activation_bits", "macs")
_TEMPLATE = Path(__file__).with_name("card.md")
_WHOLE = {
    "digits": """\
from sklearn.datasets import load_digits

pixels = load_digits().images[:10]  # 0 to 16
image = np.rint(pixels * 255 / 16).astype(np.uint8)[:, None]
""",
    "cifar10": """\
from torchvision.datasets import CIFAR10

pixels = CIFAR10("data", train=False, download=True).data[:10]  # images, height, width, channels
image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
""",
}

_READ = {
    "folder": """\
from pathlib import Path

from PIL import Image

files = Path({test}).glob("[!.]*/[!.]*")
file = min(file for file in files if file.suffix not in (".db", ".ini"))
picture = Image.open(file).convert("{mode}")
""",
    "parquet": """\
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

rows = pd.read_parquet(min(Path({root}).glob("test-*.parquet")))
cell = rows["img" if "img" in rows else "image"][0]
content = cell["bytes"] if isinstance(cell, dict) else cell
picture = Image.open(BytesIO(content)).convert("{mode}")
""",
}
_PIXELS = """\
pixels = np.array(picture).reshape(1, {height}, {width}, {channels})
image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
"""


@dataclass(frozen=True)
class Facts:
    """What a card says, beside what follows from it.

    The cost is that of the stored tensors, the agreement that on the test split. `names` are those
    of the classes, `sizes` the bytes of each file, and `doubt` is about the test accuracy.
    `runtime` is what `runtime.latency.measure` says. The `confirmation` has what the repeats of the
    trial say, if it was repeated.
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
    confirmation: Confirmation | None = None


def write(facts: Facts) -> str:
    """Returns the card in Markdown, with the front matter that model hubs read."""
    candidate, dataset, cost = facts.candidate, facts.sweep.dataset, facts.cost
    family, folder = candidate.network.family, _folder(dataset)
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
        input=_described(candidate.input),
        names=json.dumps(facts.names, ensure_ascii=False),
        expected=f", with the dataset's folder `{folder}` beside `model.onnx`" if folder else "",
        example=example(dataset, candidate.input),
        packed=-(-cost.storage_bits // 8),
        sparsity=1.0 - sum(w.nonzeros for w in weights) / sum(w.elements for w in weights),
        figures=_rows([*figures(candidate, facts.plan), *sizes]),
        interval=_interval(*wilson(facts.agreement.onnx_accuracy, facts.agreement.images)),
        confirmed=_confirmed(facts.confirmation, facts.sweep.objectives.accuracy.at_least),
        doubt=f" **But {facts.doubt}.**" if facts.doubt else "",
        scores=_rows(
            (rule, *(f"{part:.6f}" for part in (found.score, found.parameters, found.operations)))
            for rule, found in scores(cost).items()
        ),
        layers=_rows(map(_layer, cost.layers)),
        folder=f" `{folder}`" if folder else "",
        limit=f", at most {dataset.limit:,} images of each split" if dataset.limit else "",
        trained=_date(facts.outcome.ended),
        exported=_date(time.time()),
        python=platform.python_version(),
        packages=_rows((name, _version(name)) for name in PACKAGES),
    )


def _confirmed(found: Confirmation | None, goal: float) -> str:
    """Returns a sentence on the repeats of the trial."""
    if found is None or not found.accuracies:
        return "The candidate was trained once: `micronet-search confirm` says how sure that is."
    spread = "" if found.deviation is None else f", standard deviation {found.deviation:.2%}"
    verdict = "confirmed" if found.reaches(goal) else "not confirmed"
    images = "all training images" if found.full_train else "the training images"
    return (
        f"Trained on {images} with {len(found.accuracies)} seeds, the candidate has a mean test "
        f"accuracy of {found.mean:.2%}{spread}, 95 % interval {_interval(*found.interval)}: it is "
        f"{verdict} for the goal of {goal:.2%}."
    )


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


def example(dataset: Dataset, image: Input) -> str:
    """Returns Python, with numpy as `np`, that makes the input `image` from images of a dataset."""
    if dataset.name in _WHOLE:
        return _WHOLE[dataset.name]
    if dataset.name not in _READ:
        shape = (1, image.channels, image.height, image.width)
        return f"image = np.zeros({shape}, np.uint8)  # images of the dataset in this place\n"
    root, mode = Path(_folder(dataset)), "L" if image.channels == 1 else "RGB"
    names = {"root": repr(str(root)), "test": repr(str(root / "test")), "mode": mode}
    return _READ[dataset.name].format(**names) + _PIXELS.format(**image.model_dump())


def _folder(dataset: Dataset) -> str:
    own = dataset.root if dataset.name in ("folder", "parquet") else None
    return Path(own).name if own else ""


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
