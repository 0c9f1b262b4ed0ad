"""The images in a trial's networks have their channels last in memory, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Images, Normalization, Splits
from micronet_search.trial.trial import Trial

FAMILIES: dict[str, dict[str, Any]] = {
    "densenet": {
        "family": "densenet",
        "stem": {"width": 8},
        "growth_rate": 4,
        "layers": [2, 1],
        "groups": 2,
        "bottleneck": 2,
    },
    "resnet": {"family": "resnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1},
    "separable": {
        "family": "resnet",
        "stem": {"width": 8},
        "widths": [8, 12],
        "layers": 1,
        "convolution": "separable",
    },
    "efficientnet": {
        "family": "efficientnet",
        "stem": {"width": 8},
        "widths": [8, 12],
        "layers": 2,
        "squeeze": 0.25,
    },
}
EVERY_CHANGE = {
    "crop": 2,
    "flip": True,
    "rotation": 10.0,
    "jitter": {"brightness": 0.2, "hue": 0.1},
    "policy": "trivial",
    "erasing": 0.5,
    "mixup": 0.5,
    "cutmix": 0.5,
}


def begun(
    network: dict[str, Any],
    channels: int = 3,
    content: bytes | None = None,
    teacher: bytes | None = None,
    **parts: Any,
) -> Trial:
    training = {"epochs": 1, "batch_size": 8, "learning_rate": 0.01} | parts.pop("training", {})
    image = {"channels": channels, "height": 8, "width": 8}
    tree = {"input": image, "network": network, "training": training, **parts}
    trial = Trial(
        Candidate.model_validate(tree),
        noise(channels),
        seed=0,
        device=torch.device("cpu"),
        teacher=teacher,
    )
    trial.begin(content)
    return trial


def noise(channels: int) -> Splits:
    def images() -> Images:
        return Images(torch.randint(256, (16, channels, 8, 8), dtype=torch.uint8), labels)

    labels = torch.arange(16) % 10
    return Splits(images(), images(), images(), 10, Normalization(128, 0.01))


def channels_last(tensor: Tensor) -> bool:
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=torch.channels_last)


def channels_next_to_each_other(gradient: Tensor) -> bool:
    """What a concatenation gives back is a part of one with its channels last."""
    return channels_last(gradient) or gradient.stride(1) == 1


@contextmanager
def watched() -> Iterator[list[str]]:
    """What the modules that run in here read, put out or are given back with channels not last."""
    found: list[str] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        def tell(image: Tensor) -> None:
            found.append(f"{type(module).__name__}: {[*image.shape]}, {image.stride()}")

        def look_back(gradient: Tensor) -> None:
            if not channels_next_to_each_other(gradient):
                tell(gradient)

        for image in (*inputs, output):
            if isinstance(image, Tensor) and not channels_last(image):
                tell(image)
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(look_back)

    handle = nn.modules.module.register_module_forward_hook(look)
    try:
        yield found
    finally:
        handle.remove()


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("network", FAMILIES.values(), ids=FAMILIES.keys())
def test_training_and_evaluation_keep_the_channels_last(
    network: dict[str, Any], channels: int
) -> None:
    augmentation = EVERY_CHANGE if channels == 3 else {"crop": 2}
    asked = {"ema": 0.5, "augmentation": augmentation}
    quantization = {"weight_bits": 4, "activation_bits": 4, "epochs": 1}
    trial = begun(network, channels, training=asked, quantization=quantization)
    with watched() as found:
        trial.advance(2)
        trial.finish()
    assert not found


def test_a_teacher_keeps_the_channels_last() -> None:
    teacher = begun(FAMILIES["resnet"])
    teacher.advance(1)
    content = teacher.finish().files["model.safetensors"]
    asked = {"network": FAMILIES["resnet"], "training": {"epochs": 1, "learning_rate": 0.01}}
    trial = begun(FAMILIES["densenet"], teacher=content, distillation={"teacher": asked})
    with watched() as found:
        trial.advance(1)
    assert not found


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_a_trial_that_goes_on_lays_out_everything_as_before(optimizer: str) -> None:
    def layouts(trial: Trial) -> dict[str, tuple[int, ...]]:
        assert trial._fit is not None
        assert trial._fit.average is not None
        tensors = dict(trial.network.named_parameters())
        tensors |= {f"average {n}": p for n, p in trial._fit.average.named_parameters()}
        for index, state in enumerate(trial._fit.optimizer.state.values()):
            tensors |= {f"{index} {name}": value for name, value in state.items()}
        return {name: tensor.stride() for name, tensor in tensors.items()}

    training = {"epochs": 2, "optimizer": optimizer, "ema": 0.5}
    trial = begun(FAMILIES["resnet"], training=training)
    trial.advance(1)
    again = begun(FAMILIES["resnet"], training=training, content=trial.checkpoint())
    assert layouts(again) == layouts(trial)
    assert all(map(channels_last, again.network.parameters()))
