"""Norms estimated anew have the statistics of the images, and nothing else is changed."""

from __future__ import annotations

import torch
from torch import nn

from micronet_search.training import norms


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )


def test_a_norm_has_the_mean_and_variance_of_all_images() -> None:
    found = network()
    found(10 * torch.randn(64, 3, 8, 8))  # what it kept of a training that is over
    batches = torch.randn(60, 3, 8, 8).split(20)
    norms.estimate(found, batches)
    seen = [found[0](images) for images in batches]
    variances = torch.stack([image.var((0, 2, 3)) for image in seen])
    torch.testing.assert_close(found[1].running_mean, torch.cat(seen).mean((0, 2, 3)))
    torch.testing.assert_close(found[1].running_var, variances.mean(0))


def test_nothing_else_is_changed() -> None:
    found = network().eval()
    before = {name: value.clone() for name, value in found.named_parameters()}
    norms.estimate(found, [torch.randn(8, 3, 8, 8)])
    assert not found.training
    assert found[1].momentum == 0.1
    assert all(torch.equal(before[name], value) for name, value in found.named_parameters())


def test_a_second_norm_reads_what_the_first_puts_out_in_training() -> None:
    deep = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    norms.estimate(deep, [5 + 3 * torch.randn(100, 3, 8, 8)])
    torch.testing.assert_close(deep[1].running_mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(deep[1].running_var, torch.ones(3), atol=1e-3, rtol=0)


def test_a_network_without_norms_reads_no_images() -> None:
    norms.estimate(nn.Conv2d(3, 4, 3), iter(lambda: 1 / 0, None))  # type: ignore[arg-type]
