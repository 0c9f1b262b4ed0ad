from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exports import DIGITS, metadata, onnx_logits, random_images, random_shipped, run_card, widths
from onnx import numpy_helper

from micronet_search import build
from micronet_search.config.files import dump_yaml, load_candidate, load_sweep
from micronet_search.data.splits import Images, Splits
from micronet_search.export.ship import Exported, export_trial
from micronet_search.runtime import ExportError, onnx_model
from micronet_search.scoring.rules import scores
from micronet_search.shipped import Shipped, load, pack
from micronet_search.store import checkpoint
from micronet_search.store.files import write_bytes, write_json, write_text
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root, TrialFolder

FILES = {"model.onnx", "model.pt2", "model.mnz", "model.safetensors"}
FILES |= {"mnz.py", "candidate.yaml", "sweep.yaml", "README.md", "cost.png"}
SWEEP = {
    "name": "study",
    "dataset": {"name": "digits"},
    "objectives": {"accuracy": {"at_least": 0.9}, "score": {"rule": "imt", "at_most": 0.1}},
    "candidate": {
        "network": {"family": "densenet", "stem": {"width": 8}, "growth_rate": 4, "layers": [1]},
        "training": {"epochs": 1, "learning_rate": 0.1},
    },
    "search": {"trials": 1},
}


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return random_shipped(widths(4, 8))


@pytest.fixture
def trial(tmp_path: Path, shipped: Shipped) -> TrialFolder:
    return _trial(tmp_path, shipped)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, shipped: Shipped, splits: Splits
) -> Exported:
    """An export that no test changes."""
    folder = tmp_path_factory.mktemp("exported")
    return export_trial(_trial(folder, shipped), splits, folder / "new" / "folders" / "model")


def _trial(folder: Path, shipped: Shipped) -> TrialFolder:
    study = Root(folder / "mlruns").study("study")
    write_text(study.sweep, dump_yaml(SWEEP))
    write_json(study.identity, {"id": "a1"})
    trial = study.trial(7)
    write_bytes(trial.model, pack(shipped.candidate, shipped.tensors, shipped.normalization))
    _end(trial, "complete")
    return trial


@pytest.fixture(scope="module")
def splits(shipped: Shipped) -> Splits:
    images = random_images(DIGITS, 50)
    with torch.no_grad():
        labels = shipped(images).argmax(1)
    labels[:10] = (labels[:10] + 1) % 10  # so that the accuracy is 80 %
    split = Images(images, labels)
    return Splits(split, split, split, 10, shipped.normalization)


def _end(trial: TrialFolder, state: str) -> None:
    tree = Outcome("failed", 0.0, 0.0, "cpu", accuracy=0.75).to_json()
    write_json(trial.outcome, tree | {"state": state})


def test_an_export_holds_the_model_and_its_figures(exported: Exported, shipped: Shipped) -> None:
    destination = exported.path
    assert {path.name for path in destination.iterdir()} == FILES
    assert os.listdir(destination.parent) == ["model"]
    assert exported.agreement.images == 50
    assert exported.agreement.onnx_accuracy == pytest.approx(0.8, abs=0.03)
    assert "test accuracy 80.00%" in str(exported)
    content = pack(shipped.candidate, shipped.tensors, shipped.normalization)
    assert (destination / "model.safetensors").read_bytes() == content
    assert load_candidate(destination / "candidate.yaml") == shipped.candidate
    found = metadata(destination)
    assert found["study"] == "a1"
    assert found["candidate"] == "study/0007"
    assert found["validation_accuracy"] == "0.75"
    assert float(found["test_accuracy"]) == exported.agreement.onnx_accuracy
    for rule, score in scores(build.predict(shipped.candidate).measured(shipped.tensors)).items():
        told = (found[f"score.{rule}{part}"] for part in ("", ".parameters", ".operations"))
        assert tuple(map(float, told)) == (score.score, score.parameters, score.operations)


def test_the_sizes_that_are_told_are_those_of_the_files(exported: Exported) -> None:
    size = (exported.path / "model.onnx").stat().st_size
    assert exported.onnx.total == size
    line, text = str(exported), (exported.path / "README.md").read_text()
    assert f"model.onnx has {size:,}, {exported.onnx.wider:,} more for zeros" in line
    assert f"| the file | {size:,} |" in text
    assert f"| the graph: nodes, names and metadata | {exported.onnx.graph:,} |" in text


def test_the_card_tells_what_was_measured(exported: Exported) -> None:
    text = (exported.path / "README.md").read_text()
    assert text.startswith("---\n")
    for expected in (
        "| test accuracy | 80.00%, 95 % interval 66.96% to 88.76% |",
        "| validation accuracy | 75.00% |",
        "| bits of weights | 4 |",
        "| imt |",
        "| micronet2019 |",
        "| classifier | linear |",
        "trial 7 of the study `study`",
        "| images | 50 for training, 50 for validation, 50 for test |",
        "micronet-search export study --trial 7\n",
        "](cost.png)",
    ):
        assert expected in text, expected
    assert str(exported.path.parents[2]) not in text
    assert re.search(r"\{\w*\}", text) is None


def test_the_code_on_the_card_runs(exported: Exported) -> None:
    found, _ = run_card(exported.path)
    with torch.no_grad():
        logits = found["network"](torch.from_numpy(found["image"]))
    assert np.array_equal(logits.argmax(1), found["logits"].argmax(1))


def test_the_sweep_is_shipped_without_the_machine(exported: Exported, tmp_path: Path) -> None:
    """It can be run as it is, beside the folder of the dataset."""
    sweep = load_sweep(exported.path / "sweep.yaml")
    there = (
        {"name": "folder", "root": "/home/somebody/data"},
        {"address": "host:6379", "engine": "ray"},
    )
    moved = sweep.override(dataset=there[0], execution=there[1])
    path = tmp_path / "sweep.yaml"
    path.write_text(dump_yaml(moved.portable()))
    assert load_sweep(path) == sweep.override(dataset={"name": "folder", "root": "data"})


def test_an_accuracy_far_from_the_searchs_is_said(
    trial: TrialFolder, splits: Splits, tmp_path: Path
) -> None:
    """80 % of 50 images may be 75 % of 50, but 0 % may not."""
    near = export_trial(trial, splits, tmp_path / "near")
    assert "\n" not in str(near)
    assert "is far from" not in (tmp_path / "near/README.md").read_text()
    labels = (splits.test.labels + 2) % 10
    moved = replace(splits, test=Images(splits.test.images, labels))
    (_, line) = str(export_trial(trial, moved, tmp_path / "far")).splitlines()
    told = "the test accuracy of 0.00% is far from the validation accuracy of 75.00%"
    assert line.startswith(f"warning: {told}")
    assert told in (tmp_path / "far/README.md").read_text()


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_the_network_comes_back(name: str, exported: Exported, shipped: Shipped) -> None:
    loaded, images = load(exported.path / name), random_images(DIGITS, 20)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(images), shipped(images))
    content = (exported.path / "model.onnx").read_bytes()
    assert torch.equal(onnx_logits(content, images).argmax(1), loaded(images).argmax(1))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_file_that_predicts_otherwise_leaves_nothing(
    earlier: bool,
    trial: TrialFolder,
    splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    destination = tmp_path / "exports" / "model"
    if earlier:
        export_trial(trial, splits, destination)
    before = _tree(tmp_path)
    write = onnx_model.write

    def tampered(shipped: Shipped, *arguments: Any) -> bytes:
        model = onnx.load_from_string(write(shipped, *arguments))
        (weight,) = (t for t in model.graph.initializer if t.name == "stem.weight")
        values = numpy_helper.to_array(weight)
        reversed_ = (-1 - values.astype(np.int8)).astype(values.dtype)
        weight.CopyFrom(numpy_helper.from_array(reversed_, weight.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(onnx_model, "write", tampered)
    with pytest.raises(ExportError, match="of 50 test images differently, expected at most 1"):
        export_trial(trial, splits, destination)
    assert _tree(tmp_path) == before


def test_a_full_disk_leaves_nothing(
    trial: TrialFolder, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = tmp_path / "exports" / "model"
    before = _tree(tmp_path)

    def full(path: Path, content: bytes) -> None:
        if path.name == "README.md":
            raise OSError("no space left on device")
        write_bytes(path, content)

    monkeypatch.setattr("micronet_search.export.ship.write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        export_trial(trial, splits, destination)
    assert _tree(tmp_path) == before


def test_a_study_that_may_only_be_read_is_exported(
    trial: TrialFolder, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("micronet_search.store.runtime.write_json", refuse)
    export_trial(trial, splits, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES


def _tree(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_an_earlier_export_is_replaced(trial: TrialFolder, splits: Splits, tmp_path: Path) -> None:
    destination = tmp_path / "model"
    export_trial(trial, splits, destination)
    (destination / "README.md").write_text("edited")
    export_trial(trial, splits, destination)
    assert "edited" not in (destination / "README.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns", "model"}


def test_an_empty_folder_is_taken_and_a_study_that_nobody_may_write_to_exported(
    trial: TrialFolder, splits: Splits, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    trial.runtime.mkdir()  # no file can be put there
    export_trial(trial, splits, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES


@pytest.mark.parametrize("kind", ["file", "other file beside", "other model"])
def test_what_is_no_export_stays(
    kind: str, trial: TrialFolder, splits: Splits, tmp_path: Path
) -> None:
    destination = tmp_path / "model"
    if kind == "file":
        destination.write_text("mine")
    elif kind == "other file beside":
        export_trial(trial, splits, destination)
        (destination / "notes.txt").write_text("mine")
    else:
        destination.mkdir()
        (destination / "model.safetensors").write_bytes(b"mine")
    before = _tree(tmp_path)
    with pytest.raises(ValueError, match="something that is no export in"):
        export_trial(trial, splits, destination)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("state", ["stopped", "failed", "none", "no model"])
def test_a_trial_without_a_model_is_refused(
    state: str, trial: TrialFolder, splits: Splits, tmp_path: Path
) -> None:
    if state == "none":
        trial.outcome.unlink()
    elif state == "no model":
        trial.model.unlink()
    else:
        _end(trial, state)
    with pytest.raises(ValueError, match="expected a complete trial with its model"):
        export_trial(trial, splits, tmp_path / "model")


def test_another_dataset_is_refused(trial: TrialFolder, splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found a dataset with 11 classes"):
        export_trial(trial, replace(splits, classes=11), tmp_path / "model")
    wide = Images(torch.zeros(2, 1, 8, 9, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="width=9"):
        export_trial(trial, replace(splits, train=wide), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("damage", ["cut", "other tensors", "missing", "no candidate"])
def test_a_model_that_cannot_be_read_is_refused(
    damage: str, trial: TrialFolder, shipped: Shipped
) -> None:
    content = trial.model.read_bytes()
    tensors, meta = checkpoint.unpack(content)
    if damage == "cut":
        trial.model.write_bytes(content[:-1])
    elif damage == "other tensors":
        trial.model.write_bytes(checkpoint.pack({"stem.weight": tensors["stem.weight"]}, meta))
    elif damage == "no candidate":
        trial.model.write_bytes(checkpoint.pack(tensors, {"dict": []}))
    else:
        trial.model.unlink()
    with pytest.raises(ValueError, match=re.escape(str(trial.model))):
        load(trial.path)
