"""The model card: what is shipped, how to run it, and every measured figure."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml
from micronet_search.config.sweep import Sweep
from micronet_search.export import techniques, usage
from micronet_search.export.check import Agreement
from micronet_search.network.precision import Plan
from micronet_search.score.cost import Cost
from micronet_search.score.rules import scores
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import MODEL_FILE

PACKAGES = ("micronet-search", "torch", "onnx", "onnxruntime")

_TEXT = """\
{front}
# {sweep.name}, trial {facts.trial}

{family} that tells {candidate.classes} classes of images of {image.height} x {image.width} pixels
with {image.channels} channel{plural} apart: trial {facts.trial} of the study `{sweep.name}` of
micronet-search, the candidate with the digest `{digest}`, searched, trained and compressed
automatically.

## Running it

`model.onnx` takes pixels as they are; normalisation is inside. Images of another size, range or
order of channels have to be brought to this first. It was checked with ONNX Runtime {onnxruntime}.

* Input `image`: {input}; any N.
* Output `logits`: float32, N x {candidate.classes}; the largest of an image's logits tells
  its class.

The classes, in the order of the logits (they are `classes` in the file's metadata too):

```json
{names}
```

This is how images of the dataset become the input{expected}:

```python
import json

import numpy as np
import onnxruntime

{example}
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
(logits,) = session.run(["logits"], {{"image": image}})
print([names[number] for number in logits.argmax(1)])
```

`{model}` holds the same network's tensors as they are scored, and `candidate.yaml` every
choice behind it. With micronet-search installed, the PyTorch network comes back, from uint8 images
to logits:

```python
from micronet_search.shipped import load

network = load("{model}")
```

## Figures

{figures}

Accuracy is the share of the test split's {facts.agreement.images:,} images whose class is named,
measured on `model.onnx` when it was exported; the validation split, taken from the training images,
is what the search went by.{doubt}

MACs are multiply-accumulates for one image. A score is lower for a cheaper network; its parts are
what is stored and what is computed.

## Scores

{scores}

## Layers

{layers}

`elements` are all that a layer stores: weights, biases and scales.

## Where it comes from

{origin}
"""


@dataclass(frozen=True)
class Facts:
    """What a card says.

    Attributes:
        sweep: The sweep of the study.
        trial: The number of the trial.
        candidate: The candidate that it evaluated.
        names: The names of the classes, in the order of the logits.
        outcome: How the trial ended.
        plan: The widths of the layers.
        cost: Measured on the stored tensors.
        agreement: Of the ONNX file and the PyTorch network on the test split.
        doubt: What is odd about the test accuracy, if anything.
        sizes: Bytes of each shipped file, by its name.
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
    candidate, sweep = facts.candidate, facts.sweep
    image, folder = candidate.input, usage.folder(sweep.dataset)
    family = candidate.network.title
    return _TEXT.format(
        facts=facts,
        sweep=sweep,
        candidate=candidate,
        image=image,
        model=MODEL_FILE,
        front=_front(candidate),
        family=family[0].upper() + family[1:],
        plural="" if image.channels == 1 else "s",
        digest=candidate.digest(),
        onnxruntime=_version("onnxruntime"),
        input=usage.describe(image),
        names=usage.listed(facts.names),
        expected=f", with the dataset's folder `{folder}` beside `model.onnx`" if folder else "",
        example=usage.example(sweep.dataset, image),
        figures=_table(("figure", "value"), _figures(facts)),
        doubt=f" **But {facts.doubt}.**" if facts.doubt else "",
        scores=_table(("rule", "score", "parameters", "operations"), _scores(facts.cost)),
        layers=_table(_LAYER_COLUMNS, _layers(facts.cost)),
        origin=_table(("", ""), _origin(facts)),
    )


def _front(candidate: Candidate) -> str:
    tags = ["micronet-search", "onnx", candidate.network.family, *techniques.tags(candidate)]
    head = {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": tags,
        "metrics": ["accuracy"],
    }
    return f"---\n{dump_yaml(head)}---\n"


def _figures(facts: Facts) -> Iterable[tuple[str, str]]:
    agreement, cost = facts.agreement, facts.cost
    assert facts.outcome.accuracy is not None
    yield "test accuracy", f"{agreement.onnx_accuracy:.2%}"
    yield "test accuracy of the PyTorch network", f"{agreement.torch_accuracy:.2%}"
    yield "test images that the two class differently", f"{agreement.differing:,}"
    yield "validation accuracy", f"{facts.outcome.accuracy:.2%}"
    yield "parameters, before norms are folded", f"{cost.parameters:,}"
    yield "stored elements that are not zero", f"{cost.nonzeros:,}"
    yield "MACs", f"{cost.macs:,}"
    yield "storage, zeros packed (bytes)", f"{-(-cost.storage_bits // 8):,}"
    yield "sparsity of the weights", f"{_sparsity(cost):.2%}"
    yield from techniques.figures(facts.candidate, facts.plan)
    for name, size in facts.sizes.items():
        yield f"`{name}` (bytes)", f"{size:,}"


def _sparsity(cost: Cost) -> float:
    weights = [layer.stored[0] for layer in cost.layers if layer.macs]
    return 1.0 - sum(w.nonzeros for w in weights) / sum(w.elements for w in weights)


def _scores(cost: Cost) -> Iterable[tuple[str, str, str, str]]:
    for rule, found in scores(cost).items():
        yield rule, f"{found.score:.6f}", f"{found.parameters:.6f}", f"{found.operations:.6f}"


_LAYER_COLUMNS = ("layer", "kind", "elements", "nonzeros", "weight bits", "input bits", "MACs")


def _layers(cost: Cost) -> Iterable[tuple[str, ...]]:
    for layer in cost.layers:
        counts = (layer.elements, layer.nonzeros, layer.weight_bits, layer.activation_bits)
        yield layer.name, layer.kind, *(f"{n:,}" for n in (*counts, layer.macs))


def _origin(facts: Facts) -> Iterable[tuple[str, str]]:
    search, dataset = facts.sweep.search, facts.sweep.dataset
    folder = f" `{usage.folder(dataset)}`" if usage.folder(dataset) else ""
    limit = f", at most {dataset.limit:,} images of each split" if dataset.limit else ""
    yield "dataset", f"{dataset.name}{folder}{limit}"
    yield "study", f"`{facts.sweep.name}`, sampler {search.sampler.name}, seed {search.seed}"
    yield "trial", str(facts.trial)
    yield "trained on", f"{facts.outcome.device}, until {_date(facts.outcome.ended)}"
    yield "exported", _date(time.time())
    yield "Python", platform.python_version()
    yield from ((name, _version(name)) for name in PACKAGES)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
