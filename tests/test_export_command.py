"""`micronet-search export` as a shell sees it: what it leaves, and what it says where it cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from exports import DIGITS, metadata, run_card
from PIL import Image
from sklearn.datasets import load_digits
from studies import Command, Fault, cli, tiny, write

from micronet_search.cli import shipping
from micronet_search.config.sweep import Dataset
from micronet_search.data.splits import load
from micronet_search.export.snippets import example

EASY = {"search__trials": 1, "candidate__training__epochs": 15}
COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]
PICTURE = [np.broadcast_to(np.uint8(colour), (8, 8, 3)) for colour in COLOURS]


def write_pictures(root: Path, names: list[str]) -> None:
    """A dataset of one colour a class, and noise, but for the first image."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        for name, plain in zip(names, PICTURE, strict=True):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(0, 30 if number else 1, plain.shape, np.uint8)
                Image.fromarray(plain + noise).save(root / part / name / f"{number:02d}.png")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("onnx.checker:check_model", onnx.checker.ValidationError),
        ("onnxruntime:InferenceSession", RuntimeError),
        ("onnxruntime:InferenceSession.run", RuntimeError),
    ],
    ids=["not valid", "no session", "no run"],
)
def test_a_failed_export_is_one_line_and_leaves_nothing(
    finished: Path, tmp_path: Path, place: str, error: type[Exception]
) -> None:
    fault = Fault(place, 1, error("no kernel for it\nand more"))
    arguments = ("export", "tiny", "--best", "--root", finished)
    done = Command(*arguments, cwd=tmp_path, kill=fault).wait()
    assert done.code == 1, done
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "no kernel for it" in done.err
    assert done.out == ""
    assert not list(tmp_path.iterdir())


def test_another_study_of_the_same_name_is_not_overwritten(
    finished: Path, runs: Path, tmp_path: Path
) -> None:
    """Two studies of one name under two roots; each replaces its own exports alone."""
    sweep = write(tmp_path / "tiny.yaml", tiny(search__trials=1, search__seed=4))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    first, second = (("export", "tiny", "--trial", 0, "--root", root) for root in (finished, runs))
    assert cli(*first, cwd=tmp_path).code == 0
    path = tmp_path / "exports/tiny/0000"
    before = (path / "model.onnx").read_bytes()
    found = cli(*second, cwd=tmp_path).error
    assert f"found an export of 'tiny/0000' of another study in {path}, expected" in found
    assert "--to" in found
    assert (path / "model.onnx").read_bytes() == before
    assert cli(*first, cwd=tmp_path).code == 0
    assert cli(*second, "--to", "elsewhere", cwd=tmp_path).code == 0
    assert (tmp_path / "elsewhere/model.onnx").read_bytes() != before
    assert (path / "model.onnx").read_bytes() == before


def test_a_champion_is_confirmed_by_the_goal_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial 3 is confirmed for 0.9, which is asked for, and not for the study's own 0.97."""
    told: list[bool] = []

    def read(study: str, root: Path, at_least: float | None = None) -> Mock:
        view = Mock(confirmed=lambda: [{"trial": 3}] if at_least == 0.9 else [])
        view.folder.trial, view.shipped = "trial {}".format, "repeat of {}".format
        return view

    def exported(source: str, *rest: Any) -> Mock:
        assert source == "repeat of 3"
        assert rest[-1] == "--best --at-least 0.9"
        return Mock(entry=lambda confirmed: told.append(confirmed))

    monkeypatch.setattr(shipping, "read", read)
    monkeypatch.setattr("micronet_search.export.ship.export_trial", exported)
    for name in ("data.splits.load", "study.sync.sync", "tracking.registry.register"):
        monkeypatch.setattr(f"micronet_search.{name}", Mock())
    shipping.export("tiny", best=True, at_least=0.9, register=True)
    assert told == [False]


def test_digits_as_scikit_learn_has_them_are_brought_to_the_networks_range(
    finished: Path, tmp_path: Path
) -> None:
    """The card's code, as written, gives what the network was trained on."""
    command = ("export", "tiny", "--trial", 0, "--root", finished, "--to", "model")
    assert cli(*command, "--opset", 14, cwd=tmp_path).code == 0
    assert onnx.load(tmp_path / "model/model.onnx").opset_import[0].version == 14
    told = metadata(tmp_path / "model")
    shape = "N x 1 x 8 x 8 (images, channels, height, width)"
    assert told["input"] == f"uint8, {shape}, pixels from 0 to 255, grayscale"
    assert told["Image.BitmapPixelFormat"] == "Gray8"
    assert told["Image.NominalPixelRange"] == "NominalRange_0_255"
    assert json.loads(told["classes"]) == [str(digit) for digit in range(10)]
    assert told["input"] in (tmp_path / "model/README.md").read_text()
    found, printed = run_card(tmp_path / "model")
    splits = load(Dataset(name="digits"))
    known = torch.cat([splits.train.images, splits.validation.images, splits.test.images])
    images = torch.from_numpy(found["image"])
    assert (images[:, None] == known).flatten(2).all(2).any(1).all()
    assert printed == f"{[str(number) for number in found['logits'].argmax(1)]}\n"

    # the same code on all of scikit-learn's images, and their own labels
    exec(example(Dataset(name="digits"), DIGITS).replace("[:10]", ""), found)
    (logits,) = found["session"].run(["logits"], {"image": found["image"]})
    test = load(Dataset.model_validate(tiny()["dataset"])).test
    tested = (torch.from_numpy(found["image"])[:, None] == test.images).flatten(2).all(2)
    right = (logits.argmax(1) == load_digits().target)[tested.any(1).numpy()]
    assert len(right) == len(test)
    assert right.mean() == float(told["test_accuracy"])
    assert f"test accuracy | {right.mean():.2%}" in (tmp_path / "model/README.md").read_text()


def test_an_export_knows_the_classes_of_a_folder_and_doubts_others(
    runs: Path, tmp_path: Path
) -> None:
    """A class may have any name that a folder may have; the classes are as easy as can be."""
    names = ["``` {x}", "bée|ß", os.fsdecode(b"\xff")]
    write_pictures(tmp_path / "three kinds", names)
    dataset = {"name": "folder", "root": str(tmp_path / "three kinds"), "validation": 30}
    sweep = write(tmp_path / "sweep.yaml", tiny("kinds", dataset=dataset, **EASY))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    done = cli("export", "kinds", "--best", "--root", runs, "--to", "model", cwd=tmp_path)
    assert done.code == 0, done
    told = metadata(tmp_path / "model")
    assert told["Image.BitmapPixelFormat"] == "Rgb8"
    assert told["input"].endswith("channels red, green, blue")
    known = ["``` {x}", "bée|ß", "?"]
    assert json.loads(told["classes"]) == known
    card = (tmp_path / "model/README.md").read_text()
    assert json.dumps(known, ensure_ascii=False) in card
    assert str(tmp_path) not in card
    (tmp_path / "model/three kinds").symlink_to(tmp_path / "three kinds")
    found, printed = run_card(tmp_path / "model")
    assert found["image"].tolist() == PICTURE[0].transpose(2, 0, 1)[None].tolist()
    assert printed == f"{[known[0]]}\n"  # an image of the first class

    # two classes change their names after the training
    first, second = (tmp_path / "three kinds/test" / name for name in names[:2])
    first.rename(tmp_path / "other")
    second.rename(first)
    (tmp_path / "other").rename(second)
    done = cli("export", "kinds", "--best", "--root", runs, "--to", "moved", cwd=tmp_path)
    assert done.code == 0, done
    result, warning = done.out.splitlines()
    assert "test accuracy" in result
    assert warning.startswith("warning: the test accuracy of ")
