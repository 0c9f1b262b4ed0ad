"""Model files that were made to harm: refused soon, and with little memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from exports import random_shipped, widths
from limits import within
from torch import Tensor

from micronet_search import shipped
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Normalization
from micronet_search.shipped import Shipped, load, unpack
from micronet_search.store.checkpoint import pack
from micronet_search.store.paths import MODEL_FILE

Tensors = dict[str, Tensor]
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def model() -> Shipped:
    return random_shipped(widths(4, 8))


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    with within(2, 200):
        yield


def parts(model: Shipped) -> tuple[Tensors, Tree]:
    normalization = {"mean": model.normalization.mean, "scale": model.normalization.scale}
    candidate = model.candidate.model_dump(mode="json")
    return dict(model.tensors), {"candidate": candidate, "normalization": normalization}


def test_a_model_comes_back(model: Shipped) -> None:
    content = shipped.pack(model.candidate, model.tensors, model.normalization)
    assert content == pack(*parts(model))
    found = unpack(content)
    assert found.candidate == model.candidate
    assert found.normalization == model.normalization
    assert all(torch.equal(found.tensors[name], t) for name, t in model.tensors.items())


def first(tensors: Tensors, end: str) -> str:
    return next(name for name in tensors if name.endswith(end))


def missing(tensors: Tensors, _: Tree) -> None:
    del tensors[first(tensors, ".weight_scale")]


def more(tensors: Tensors, _: Tree) -> None:
    tensors["other.weight"] = torch.zeros(3)


def shape(tensors: Tensors, _: Tree) -> None:
    name = first(tensors, ".weight")
    tensors[name] = tensors[name].flatten()


def one_for_all(tensors: Tensors, _: Tree) -> None:
    name = first(tensors, ".weight_scale")
    tensors[name] = tensors[name][:1]


def kind(tensors: Tensors, _: Tree) -> None:
    name = first(tensors, ".weight")
    tensors[name] = tensors[name].to(torch.complex64)


def number(tensors: Tensors, _: Tree) -> None:
    name = first(tensors, ".weight_scale")
    tensors[name] = tensors[name].double()


def network(**values: Any) -> Callable[[Tensors, Tree], None]:
    def change(_: Tensors, tree: Tree) -> None:
        tree["candidate"]["network"] |= values

    change.__name__ = "-".join(values)
    return change


def giant_to_thin(_: Tensors, tree: Tree) -> None:
    tree["candidate"]["network"] |= {"stem": {"width": 4096}, "growth_rate": 1024}
    tree["candidate"]["structured_pruning"] = {"ratio": 0.5}


def deep(tensors: Tensors, tree: Tree) -> None:
    tree["candidate"]["network"] = {
        "family": "efficientnet",
        "stem": {"width": 4096},
        "widths": [4096],
        "layers": 200,
    }
    tensors |= {f"x{i}": torch.zeros(0) for i in range(150)}


def candidate(value: Any) -> Callable[[Tensors, Tree], None]:
    return lambda _, tree: tree.update(candidate=value)


def normalization(value: Any) -> Callable[[Tensors, Tree], None]:
    return lambda _, tree: tree.update(normalization=value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, r"found no \S+weight_scale, expected the tensors of the candidate's network"),
        (more, r"found the tensor other.weight, expected the tensors of the candidate"),
        (shape, r"found \S+weight of \(\d+,\), torch.int8, expected \(\(\d+, "),
        (one_for_all, r"weight_scale of \(1,\)"),
        (kind, r"torch.complex64, expected .*torch.int8"),
        (number, r"torch.float64, expected .*torch.float16"),
        (network(stem={"width": 4096}, growth_rate=1024), "expected"),
        (network(layers=[200, 200]), r"network has 400 layers in its blocks, expected at most 200"),
        (giant_to_thin, r"the network to thin has [\d,]+ parameters, expected at most 100,000,000"),
        (deep, "expected the tensors of the candidate's network"),
        (candidate(None), "not one of this version: found null, expected a mapping"),
        (candidate([[]]), "not one of this version: found"),
        (candidate({}), "not one of this version: network: missing"),
        (normalization(None), "the normalization null, expected a mean and a scale"),
        (normalization({"mean": 1}), "expected a mean and a scale"),
        (normalization({"mean": "1", "scale": 1.0}), "expected a mean and a scale"),
        (normalization({"mean": 300, "scale": 1.0}), "expected a mean and a scale"),
        (normalization({"mean": 3, "scale": float("nan")}), "expected a mean and a scale"),
        (normalization({"mean": 3, "scale": 1.0, "x": 0}), "expected a mean and a scale"),
    ],
)
def test_a_model_that_is_not_what_it_says(
    model: Shipped, change: Callable[[Tensors, Tree], None], message: str
) -> None:
    tensors, tree = parts(model)
    change(tensors, tree)
    with pytest.raises(ValueError, match=message) as error:
        unpack(pack(tensors, tree))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("meta", [None, 1, [], {}, {"candidate": {}}, "text"])
def test_a_file_that_is_no_model(meta: Any) -> None:
    with pytest.raises(ValueError, match="found a file of tensors without a candidate"):
        unpack(pack({}, meta))


def test_a_giant_is_refused_before_it_is_built(model: Shipped) -> None:
    tree = model.candidate.model_dump(mode="json")
    tree["network"] |= {"stem": {"width": 4096}, "growth_rate": 1024, "bottleneck": 64}
    with pytest.raises(ValueError, match=r"found .* expected"):
        Shipped(Candidate.model_validate(tree), model.tensors, Normalization(0, 1.0))


def test_a_sparse_file_of_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / MODEL_FILE, "wb") as file:
        file.truncate(shipped.MAX_BYTES + 1)
    with pytest.raises(ValueError, match=r"found 1,073,741,825 bytes, expected at most"):
        load(tmp_path)


def test_what_load_names_is_the_file(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(json.dumps({}).encode())
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{MODEL_FILE}: the checkpoint is damaged"):
        load(tmp_path)
