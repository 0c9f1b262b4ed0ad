"""Training and evaluation as plain PyTorch scripts have them, for `step.py` to compare with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from torchvision.transforms import v2

from micronet_search.data.splits import Images, Normalization

EVALUATION_BATCH = 1000


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """Returns the wall time of a call, with all that it asked of the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - begun


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures and labels, as torchvision's CIFAR10 gives them."""

    def __init__(self, images: Images, normalization: Normalization) -> None:
        mean, std = normalization.mean / 255, 1 / (255 * normalization.scale)
        self.pixels = images.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = images.labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([mean] * 3, [std] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def loop(network: nn.Module, device: torch.device, batches: Callable[[], Any]) -> Any:
    """Returns a function that trains on all batches, as a plain PyTorch script does."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )

    def train() -> None:
        network.train()
        for images, labels in batches():
            images, labels = (each.to(device, non_blocking=True) for each in (images, labels))
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = cross_entropy(network(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return lambda: seconds(device, train)


def graphed(network: nn.Module, device: torch.device, batches: Callable[[], Any]) -> Any:
    """Returns what `loop` does, with each step replayed as a CUDA graph.

    The graph is captured as PyTorch's documentation of CUDA graphs shows for whole networks.
    """
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    images, labels = (each.clone() for each in next(iter(batches())))
    network.train()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            loss = cross_entropy(network(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    optimizer.zero_grad()  # so that the graph allocates the gradients
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def train() -> None:
        for some, right in batches():
            images.copy_(some)
            labels.copy_(right)
            graph.replay()

    return lambda: seconds(device, train)


def evaluation(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    with torch.inference_mode():
        parts = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
        return float(sum((network(some).argmax(1) == right).sum() for some, right in parts))
