"""The same code on a CUDA device: run with `pytest -m gpu`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset, Execution
from micronet_search.data import splits
from micronet_search.data.batches import evaluation_batches
from micronet_search.engine.slot import Slot
from micronet_search.engine.work import Crashed, Ended, Job, Reached
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Result
from micronet_search.training.fit import Fit, accuracy
from micronet_search.trial.trial import Trial
from micronet_search.trial.views import Viewing, unpack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


DENSENET: dict[str, Any] = {
    "network": {
        "family": "densenet",
        "stem": {"width": 12},
        "growth_rate": 8,
        "layers": [2, 2],
        "groups": 2,
        "bottleneck": 2,
    },
    "training": {
        "epochs": 8,
        "batch_size": 64,
        "learning_rate": 0.01,
        "ema": 0.9,
        "augmentation": {"crop": 1, "flip": False, "mixup": 0.2, "cutmix": 0.2},
    },
    "pruning": {"sparsity": 0.5, "epochs": 3},
    "quantization": {"weight_bits": 4, "activation_bits": 8, "epochs": 3},
}
# every other technique: stages end after 8, 10, 12, 14 and 17 epochs
EFFICIENTNET: dict[str, Any] = {
    "network": {
        "family": "efficientnet",
        "stem": {"width": 16},
        "widths": [16, 24],
        "layers": 1,
        "squeeze": 0.25,
        "activation": "hard-swish",
    },
    "training": {
        "epochs": 8,
        "batch_size": 64,
        "optimizer": "muon",
        "learning_rate": 0.03,
        "schedule": "one-cycle",
        "augmentation": {"rotation": 5.0, "policy": "trivial", "erasing": 0.1},
    },
    "structured_pruning": {"ratio": 0.2, "epochs": 2},
    "factorization": {"kind": "svd", "ratio": 0.8, "epochs": 2},
    "pruning": {"sparsity": 0.3, "epochs": 2, "exclude": ["first"]},
    "quantization": {
        "mode": "dynamic",
        "weight_bits": 4,
        "activation_bits": 8,
        "epochs": 3,
        "blocks": {"block2": {"weight_bits": 1}},
    },
}


def candidate(tree: dict[str, Any]) -> Candidate:
    return Candidate.model_validate({"input": {"channels": 1, "height": 8, "width": 8}, **tree})


def run(
    asked: Candidate,
    device: torch.device,
    pause: int | None = None,
    teacher: bytes | None = None,
) -> Result:
    data = splits.load(Dataset(name="digits", validation=300)).to(device)
    trial = Trial(asked, data, seed=0, device=device, teacher=teacher)
    trial.begin()
    if pause is not None:
        trial.advance(pause)
        content = trial.checkpoint()
        trial = Trial(asked, data, seed=0, device=device)
        trial.begin(content)
    trial.advance(trial.epochs)
    return trial.finish()


@pytest.mark.parametrize(
    ("tree", "pause", "least"),
    [
        pytest.param(DENSENET, None, 0.8, id="densenet-whole"),
        pytest.param(DENSENET, 3, 0.8, id="densenet-fit"),
        pytest.param(DENSENET, 9, 0.8, id="densenet-prune"),
        pytest.param(DENSENET, 12, 0.8, id="densenet-quantize"),
        pytest.param(EFFICIENTNET, None, 0.6, id="efficientnet-whole"),
        pytest.param(EFFICIENTNET, 9, 0.6, id="efficientnet-thin"),
        pytest.param(EFFICIENTNET, 11, 0.6, id="efficientnet-factorize"),
        pytest.param(EFFICIENTNET, 15, 0.6, id="efficientnet-quantize"),
    ],
)
def test_a_trial_on_the_gpu_ships_a_network_that_the_cpu_agrees_with(
    tree: dict[str, Any], pause: int | None, least: float
) -> None:
    asked = candidate(tree)
    result = run(asked, torch.device("cuda"), pause)
    assert result.outcome.state == "complete"
    assert result.outcome.accuracy is not None
    assert result.outcome.accuracy > least

    tensors, _ = checkpoint.unpack(result.files["model.safetensors"])
    network, _ = build.compressed(asked)
    stored.install(network, tensors)
    data = splits.load(Dataset(name="digits", validation=300))
    found = accuracy(network, evaluation_batches(data.validation, data.normalization, 100))
    # float32 sums in another order: an image at a tie may fall on the other side
    assert found == pytest.approx(result.outcome.accuracy, abs=1.5 / len(data.validation))
    cost = build.predict(asked).measured(tensors)
    assert (cost.nonzeros, cost.macs) == (result.outcome.nonzeros, result.outcome.macs)


def test_soft_targets_of_the_gpu_are_those_of_the_cpu_and_teach_there() -> None:
    tree: dict[str, Any] = {
        "network": {"family": "resnet", "stem": {"width": 8}, "widths": [8, 16], "layers": 1},
        "training": {"epochs": 4, "batch_size": 64, "learning_rate": 0.01},
    }
    teacher = run(candidate(tree), torch.device("cuda")).files["model.safetensors"]
    data, made = splits.load(Dataset(name="digits", validation=300)), {}
    for device in map(torch.device, ("cpu", "cuda")):
        viewing = Viewing(teacher, data.to(device), device)
        viewing.begin()
        viewing.advance(viewing.epochs)
        made[device.type] = viewing.finish().files["views.safetensors"]
    cpu, cuda = (unpack(content, len(data.train), 10).float() for content in made.values())
    torch.testing.assert_close(cuda, cpu, rtol=1e-2, atol=1e-2)

    tree["training"]["augmentation"] = {"crop": 1, "flip": True}
    tree["distillation"] = {"teacher": {"study": "a", "trial": 0}, "cached": True}
    result = run(candidate(tree), torch.device("cuda"), teacher=made["cuda"])
    assert result.outcome.accuracy is not None
    assert result.outcome.accuracy > 0.6


def test_a_slot_out_of_memory_crashes_and_is_used_again() -> None:
    """The allocator's limit raises the error for real."""
    cuda = torch.device("cuda")
    slot = Slot(splits.load(Dataset(name="digits", validation=300)), cuda, threads=None)
    torch.cuda.set_per_process_memory_fraction(0.002)
    try:
        giant = candidate({**DENSENET, "network": {**DENSENET["network"], "stem": {"width": 4096}}})
        (last,) = deque(slot.begin(Job(0, giant, 0, ())), maxlen=1)
        assert isinstance(last, Crashed)
        assert "out of memory" in (last.result.outcome.reason or "")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    slot.clear()
    asked = candidate({**DENSENET, "pruning": None, "quantization": None})
    (last,) = deque(slot.begin(Job(1, asked, 0, ())), maxlen=1)
    assert isinstance(last, Reached)
    (last,) = deque(slot.go_on("go"), maxlen=1)
    assert isinstance(last, Ended)
    assert last.result.outcome.state == "complete"


@pytest.mark.parametrize("tree", [DENSENET, EFFICIENTNET], ids=["densenet", "efficientnet"])
def test_no_step_waits_for_the_device(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = Fit.epoch

    def guarded(batches: Iterable[Any]) -> Iterator[Any]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield from batches
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def watched(self: Fit, batches: Iterable[Any], after_step: Callable[[], None]) -> float:
        return epoch(self, guarded(batches), after_step)

    monkeypatch.setattr(Fit, "epoch", watched)
    assert run(candidate(tree), torch.device("cuda")).outcome.state == "complete"


def test_two_trials_share_a_device_on_ray() -> None:
    pytest.importorskip("ray")
    from micronet_search.engine.ray.engine import Ray

    lines: list[str] = []
    execution = Execution(engine="ray", trials_per_device=2)
    engine = Ray(Dataset(name="digits", validation=300), execution, lines.append)
    try:
        assert engine.device == "cuda"
        while engine.slots < 2 * torch.cuda.device_count():
            assert engine.wait() is None
        asked = candidate({**DENSENET, "pruning": None, "quantization": None})
        for number in (0, 1):
            engine.start(Job(number, asked, number, ()))
        ended: dict[int, Result] = {}
        while len(ended) < 2:
            match engine.wait():
                case (number, Reached()):
                    engine.order(number, "go")
                case (number, Ended(result)):
                    engine.release(number)
                    ended[number] = result
        assert {result.outcome.state for result in ended.values()} == {"complete"}
    finally:
        engine.close()
