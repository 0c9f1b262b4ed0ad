"""Trials on the digits: their stages, that a break changes nothing, and what they leave."""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.data.splits import Images, Splits
from micronet_search.network.precision import layers_of
from micronet_search.scoring.rules import imt
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Result
from micronet_search.training.fit import DivergenceError
from micronet_search.trial.feed import Feed
from micronet_search.trial.stages import Rates
from micronet_search.trial.trial import Trial

CPU = torch.device("cpu")
FOUR_BITS = {"weight_bits": 4, "activation_bits": 8, "epochs": 2}


@functools.cache
def digits() -> Splits:
    return splits.load(Dataset(name="digits", validation=200, limit=700))


def candidate(
    pruning: dict[str, Any] | None = None,
    quantization: dict[str, Any] | None = None,
    **training: Any,
) -> Candidate:
    return Candidate.model_validate(
        {
            "input": digits().input.model_dump(),
            "network": {
                "family": "densenet",
                "stem": {"width": 6},
                "growth_rate": 4,
                "layers": [1, 1],
                "bottleneck": 2,
            },
            "training": {"epochs": 2, "batch_size": 50, "learning_rate": 0.01} | training,
            "pruning": pruning,
            "quantization": quantization,
        }
    )


def begun(
    asked: Candidate, seed: int = 0, content: bytes | None = None, start: bytes | None = None
) -> Trial:
    trial = Trial(asked, digits(), seed=seed, device=CPU, start=start)
    trial.begin(content)
    return trial


def run(asked: Candidate, *pauses: int, seed: int = 0, start: bytes | None = None) -> Result:
    """The result of a trial that is broken off and goes on from its checkpoint at these epochs."""
    trial = begun(asked, seed, start=start)
    for epoch in pauses:
        trial.advance(epoch)
        trial = begun(asked, seed, trial.checkpoint(), start)
    trial.advance(trial.epochs)
    return trial.finish()


def tensors(result: Result) -> dict[str, Tensor]:
    return checkpoint.unpack(result.files["model.safetensors"])[0]


def same(first: Result, second: Result) -> bool:
    ours, theirs = tensors(first), tensors(second)
    return (
        first.outcome.accuracy == second.outcome.accuracy
        and all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())
        and first.files["fitted.safetensors"] == second.files["fitted.safetensors"]
    )


EVERYTHING = candidate(
    pruning={"sparsity": 0.6, "epochs": 3},
    quantization=FOUR_BITS,
    ema=0.8,
    augmentation={"crop": 1, "flip": True, "mixup": 0.5, "cutmix": 0.5},
)


def test_the_curve_goes_through_the_stages() -> None:
    curve = run(EVERYTHING).outcome.curve
    assert [(row.epoch, row.stage) for row in curve] == [
        (1, "fit"),
        (2, "fit"),
        (3, "prune"),
        (4, "prune"),
        (5, "prune"),
        (6, "quantize"),
        (7, "quantize"),
    ]


def test_stages_start_where_the_one_before_ends() -> None:
    found = [(s.name, s.start, s.end, s.rates) for s in begun(EVERYTHING).stages]
    assert found == [
        ("fit", 0, 2, Rates(0, 2, 0.01)),
        ("prune", 2, 5, Rates(2, 5, pytest.approx(0.003))),
        ("quantize", 5, 7, Rates(5, 7, pytest.approx(0.001))),
    ]


def test_stages_share_a_schedule_that_spans_the_trial() -> None:
    asked = candidate(
        pruning={"sparsity": 0.6, "epochs": 3}, quantization=FOUR_BITS, span="trial", warmup=1
    )
    found = [(s.name, s.start, s.end, s.rates) for s in begun(asked).stages]
    rates = Rates(0, 7, 0.01, warmup=1)
    assert found == [("fit", 0, 2, rates), ("prune", 2, 5, rates), ("quantize", 5, 7, rates)]


def test_half_precision_has_nothing_to_learn() -> None:
    asked = candidate(quantization={"weight_bits": 16, "activation_bits": 16, "epochs": 9})
    assert begun(asked).epochs == 2


@pytest.mark.parametrize(
    "pauses",
    [
        pytest.param((0,), id="before"),
        pytest.param((1,), id="mid-fit"),
        pytest.param((2,), id="end-of-fit"),
        pytest.param((3,), id="mid-prune"),
        pytest.param((5,), id="end-of-prune"),
        pytest.param((6,), id="mid-quantize"),
        pytest.param((7,), id="end"),
        pytest.param((1, 2, 3, 4, 5, 6, 7), id="everywhere"),
    ],
)
def test_a_break_changes_nothing(pauses: tuple[int, ...]) -> None:
    assert same(run(EVERYTHING, *pauses), uninterrupted())


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_a_break_changes_nothing_in_one_schedule_over_the_trial(schedule: str) -> None:
    asked = candidate(quantization=FOUR_BITS, optimizer="muon", schedule=schedule, span="trial")
    assert same(run(asked, 1, 2, 3), run(asked))


@functools.cache
def uninterrupted() -> Result:
    return run(EVERYTHING)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_break_changes_nothing_in_other_optimizers(optimizer: str) -> None:
    asked = candidate(
        pruning={"sparsity": 0.5},
        quantization=FOUR_BITS,
        optimizer=optimizer,
        schedule="one-cycle",
    )
    assert same(run(asked, 1, 2, 3), run(asked))


def test_a_seed_decides_everything() -> None:
    assert same(run(EVERYTHING), uninterrupted())
    assert not same(run(EVERYTHING, seed=1), uninterrupted())


@pytest.mark.parametrize(
    ("pruning", "quantization"),
    [
        pytest.param(None, None, id="plain"),
        pytest.param({"sparsity": 0.5}, None, id="pruned-at-once"),
        pytest.param(None, {"weight_bits": 8, "activation_bits": 8}, id="quantized-after-training"),
        pytest.param({"sparsity": 0.5}, {"weight_bits": 8, "activation_bits": 8}, id="both"),
        pytest.param(None, {"weight_bits": 16, "activation_bits": 16}, id="half"),
        pytest.param({"sparsity": 0.0, "epochs": 1}, None, id="nothing-pruned"),
        pytest.param({"sparsity": 0.5}, FOUR_BITS, id="pruned-at-once-then-quantized"),
    ],
)
def test_stages_without_epochs(
    pruning: dict[str, Any] | None, quantization: dict[str, Any] | None
) -> None:
    asked = candidate(pruning, quantization)
    result = run(asked)
    weights = weights_of(asked, result)
    zeros = int((weights == 0).sum())
    expected = int((pruning or {}).get("sparsity", 0.0) * len(weights))
    assert zeros >= expected
    if quantization is None:
        assert zeros == expected
    assert result.outcome.state == "complete"


def weights_of(asked: Candidate, result: Result) -> Tensor:
    names = build.plan(asked, build.network(asked)).layers
    found = tensors(result)
    return torch.cat([found[f"{name}.weight"].flatten() for name in names])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("ema", [None, 0.9], ids=["plain", "ema"])
def test_zeros_follow_the_cubic_and_stay(optimizer: str, ema: float | None) -> None:
    asked = candidate({"sparsity": 0.6, "epochs": 4}, None, optimizer=optimizer, ema=ema)
    trial = begun(asked)
    trial.advance(2)
    total = len(weights_of_network(trial))
    for epoch in (1, 2, 3):
        trial.advance(2 + epoch)
        kept = 0.6 * (1 - (1 - epoch / 3) ** 3)
        assert int((weights_of_network(trial) == 0).sum()) == int(kept * total + 1e-9)
    trial.advance(6)
    assert int((weights_of_network(trial) == 0).sum()) == int(0.6 * total)
    assert int((weights_of(asked, trial.finish()) == 0).sum()) == int(0.6 * total)


def weights_of_network(trial: Trial) -> Tensor:
    return torch.cat([layer.weight.flatten() for layer in layers_of(trial.network).values()])


def test_the_accuracy_is_the_shipped_networks() -> None:
    result = uninterrupted()
    shipped, _ = build.compressed(EVERYTHING)
    stored.install(shipped, tensors(result))
    images = digits().validation
    found = shipped(digits().normalization(images.images)).argmax(1)
    right = int((found == images.labels).sum())
    assert result.outcome.accuracy == pytest.approx(right / len(images))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_eight_bits_cost_no_accuracy(optimizer: str) -> None:
    """Learned as they are, the scales of eight bits fell below zero here."""
    rate = 0.1 if optimizer == "sgd" else 0.01
    asked = {"weight_bits": 8, "activation_bits": 8, "epochs": 2, "learning_rate_factor": 0.5}
    settings = {"epochs": 6, "optimizer": optimizer, "learning_rate": rate}
    outcome = run(candidate(None, asked, **settings)).outcome
    assert outcome.accuracy is not None
    assert outcome.accuracy > outcome.curve[5].accuracy - 0.05


def test_eight_bits_after_training_change_few_predictions() -> None:
    asked = candidate(None, {"weight_bits": 8, "activation_bits": 8}, epochs=6)
    trial = begun(asked)
    trial.advance(6)
    images = digits().normalization(digits().train.images)
    before = trial.network.eval()(images).argmax(1)
    trial.finish()
    assert (trial.network(images).argmax(1) != before).float().mean() < 0.02


def test_layers_csv_sums_to_the_outcome() -> None:
    result = uninterrupted()
    rows = list(csv.DictReader(io.StringIO(result.files["layers.csv"].decode())))
    assert sum(int(row["nonzeros"]) for row in rows) == result.outcome.nonzeros
    assert sum(int(row["macs"]) for row in rows) == result.outcome.macs
    assert sum(int(row["weights"]) for row in rows) == sum(
        t.numel() for t in tensors(result).values()
    )
    assert result.outcome.nonzeros == sum(int((t != 0).sum()) for t in tensors(result).values())
    operations = sum(
        int(row["macs"]) * max(int(row["weight_bits"]), int(row["activation_bits"])) for row in rows
    )
    assert result.outcome.scores["imt"]["operations"] == pytest.approx(operations / 32 / 2.8e8)


def test_curve_csv_is_the_curve() -> None:
    result = uninterrupted()
    rows = list(csv.DictReader(io.StringIO(result.files["curve.csv"].decode())))
    assert [float(row["accuracy"]) for row in rows] == [r.accuracy for r in result.outcome.curve]


def test_stopped_at_a_rung_it_has_the_predicted_score() -> None:
    trial = begun(EVERYTHING)
    trial.advance(1)
    outcome = trial.stopped("too slow").outcome
    assert (outcome.state, outcome.reason) == ("stopped", "too slow")
    assert outcome.accuracy == trial.history.curve[-1].accuracy
    assert outcome.scores["imt"] == imt(build.predict(EVERYTHING)).to_json()


def test_values_beyond_half_precision_are_divergence() -> None:
    trial = begun(candidate(None, {"weight_bits": 16, "activation_bits": 16}))
    trial.advance(2)
    trial.network.get_parameter("classifier.bias").data[3] = 70_000.0
    with pytest.raises(DivergenceError, match=r"classifier\.bias is not finite as stored"):
        trial.finish()


def test_a_batch_larger_than_the_images_is_all_of_them() -> None:
    assert run(candidate(batch_size=100_000)).outcome.state == "complete"


# --- the network after the first fit, and trials that start from it ---


def fitted() -> bytes:
    return uninterrupted().files["fitted.safetensors"]


def test_the_fitted_network_is_kept_as_the_first_fit_left_it() -> None:
    """With the averaged weights and the norms as they are, before a technique touches it."""
    trial = begun(EVERYTHING)
    trial.advance(1)
    assert "fitted.safetensors" not in trial.stopped("").files
    trial.advance(2)
    expected = {name: each.clone() for name, each in trial.network.state_dict().items()}
    assert any("running_var" in name for name in expected)
    found, _ = checkpoint.unpack(fitted())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_trial_starts_from_the_fitted_network() -> None:
    trial = begun(EVERYTHING, seed=9, start=fitted())
    found, _ = checkpoint.unpack(fitted())
    state = trial.network.state_dict()
    assert all(torch.equal(state[name], found[name]) for name in found)
    trial = begun(EVERYTHING, seed=9, content=trial.checkpoint(), start=b"not read any more")
    assert all(torch.equal(trial.network.state_dict()[name], found[name]) for name in found)


def test_epochs_are_trained_on_top_of_the_start() -> None:
    fresh = run(long := candidate(epochs=16))
    content = fresh.files["fitted.safetensors"]
    curve = run(long, seed=1, start=content).outcome.curve
    assert [row.epoch for row in curve] == list(range(1, 17))
    assert curve[0].accuracy > fresh.outcome.curve[0].accuracy + 0.3
    assert curve[0].loss < fresh.outcome.curve[4].loss


@pytest.mark.parametrize("pauses", [(0,), (1,), (2,), (4,), (1, 2, 3, 4, 5, 6, 7)])
def test_a_break_changes_nothing_in_a_continued_trial(pauses: tuple[int, ...]) -> None:
    assert same(run(EVERYTHING, *pauses, start=fitted()), continued())


@functools.cache
def continued() -> Result:
    return run(EVERYTHING, start=fitted())


def test_a_checkpoint_from_before_fitted_networks_were_kept() -> None:
    trial = begun(EVERYTHING)
    trial.advance(3)
    state = checkpoint.unflatten(*checkpoint.unpack(trial.checkpoint()))
    assert state.pop("fitted") is not None
    trial = begun(EVERYTHING, 0, checkpoint.pack(*checkpoint.flatten(state)))
    trial.advance(trial.epochs)
    result = trial.finish()
    assert "fitted.safetensors" not in result.files
    assert result.outcome.accuracy == uninterrupted().outcome.accuracy


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (lambda: fitted()[:-1], "the checkpoint is damaged"),
        (lambda: uninterrupted().files["model.safetensors"], "found no "),
        (
            lambda: changed_tensor("classifier.bias", torch.zeros(3)),
            r"found classifier\.bias of \(3,\), torch\.float32, expected \(\(10,\), ",
        ),
        (lambda: changed_tensor("block9.weight", torch.zeros(1)), "found the tensor block9.weight"),
    ],
    ids=["damaged", "a model", "a shape", "a name"],
)
def test_another_network_is_no_start(content: Any, error: str) -> None:
    with pytest.raises(ValueError, match=f"^the network to start from does not fit: {error}"):
        begun(EVERYTHING, start=content())


def changed_tensor(name: str, tensor: Tensor) -> bytes:
    found, meta = checkpoint.unpack(fitted())
    return checkpoint.pack(found | {name: tensor}, meta)


def test_norms_train_with_the_quantized_network_and_folding_them_costs_nothing() -> None:
    asked = candidate(quantization=FOUR_BITS, span="trial")
    trial = begun(asked)
    trial.advance(trial.epochs)
    assert any(isinstance(module, nn.BatchNorm2d) for module in trial.network.modules())
    outcome = trial.finish().outcome
    assert outcome.accuracy == pytest.approx(outcome.curve[-1].accuracy, abs=0.02)


def test_an_epoch_is_judged_with_norms_of_training_images_as_they_are() -> None:
    trial = begun(candidate(epochs=1, augmentation={"crop": 2, "flip": True}))
    trial.advance(1)
    stem = trial.network.get_submodule("stem")
    norm = next(m for m in trial.network.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        read = stem(torch.cat([*trial.feed.calibration()]))  # what the first norm reads
    torch.testing.assert_close(norm.running_mean, read.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


@pytest.mark.parametrize(
    ("images", "sizes"), [(2, [2]), (127, [127]), (129, [128]), (256, [128, 128]), (500, [128] * 3)]
)
def test_batches_that_norms_are_estimated_from_have_one_size(images: int, sizes: list[int]) -> None:
    found = digits()
    few = Images(found.train.images[:images], found.train.labels[:images])
    feed = Feed(replace(found, train=few), candidate().training, 0, CPU)
    assert [len(batch) for batch in feed.calibration()] == sizes
