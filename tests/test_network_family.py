"""All families: whatever they are asked for runs, learns and is counted right."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pytest
import torch
from counting import count
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from test_network_densenet import config as densenet_config
from test_network_densenet import networks as densenets
from test_network_efficientnet import config as efficientnet_config
from test_network_efficientnet import efficientnets
from test_network_resnet import config as resnet_config
from test_network_resnet import resnets
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from micronet_search.compression.graph import trace
from micronet_search.config.network import Input, Network
from micronet_search.network import family
from micronet_search.network.precision import layers_of, part_of, plan

SCHEMAS = get_args(get_args(Network)[0])
NETWORKS = st.one_of(densenets(), resnets(), efficientnets())


def built_on_meta(network: Network, channels: int = 3, classes: int = 10) -> nn.Sequential:
    with torch.device("meta"):
        return family.build(network, channels, classes)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_schema_names_a_module_that_describes_it(schema: type[BaseModel]) -> None:
    (name,) = get_args(schema.model_fields["family"].annotation)
    assert callable(import_module(f"micronet_search.network.{name}").describe)


@settings(max_examples=40)
@given(NETWORKS, st.sampled_from([1, 3]), st.sampled_from([8, 32]))
def test_an_image_passes_forward_and_a_gradient_back(
    network: Network, channels: int, side: int
) -> None:
    if side < 2**network.halvings:
        side = 32
    torch.manual_seed(0)
    built = family.build(network, channels, 5)
    output = built(torch.randn(2, channels, side, side))
    assert output.shape == (2, 5)
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


@settings(max_examples=25)
@given(NETWORKS, st.sampled_from([1, 3]))
def test_macs_are_half_of_what_torch_counts(network: Network, channels: int) -> None:
    built = built_on_meta(network, channels)
    image = Input(channels=channels, height=32, width=24)
    cost = count(family.describe(network, channels, 10), image, plan(None, layers_of(built)))
    with FlopCounterMode(display=False) as counter:
        built.eval()(torch.zeros(1, channels, 32, 24, device="meta"))
    assert 2 * cost.macs == counter.get_total_flops()
    assert cost.nonzeros == sum(p.numel() for p in built.parameters())


@settings(max_examples=40)
@given(NETWORKS)
def test_the_first_layer_reads_the_image_and_the_last_one_tells_the_classes(
    network: Network,
) -> None:
    built = built_on_meta(network, 3, 7)
    layers = list(layers_of(built).items())
    (first, stem), (last, classifier) = layers[0], layers[-1]
    assert first.startswith("stem")
    assert stem.weight.shape[1] == 3
    assert (last, classifier.weight.shape[0]) == ("classifier", 7)
    blocks = {f"block{n + 1}" for n in range(network.blocks)}
    assert {part_of(name) for name, _ in layers} - {"head"} == {"stem", "classifier"} | blocks
    assert len(trace(built).nodes) > len(layers)


@settings(max_examples=30)
@given(NETWORKS)
def test_a_network_survives_the_way_through_a_file(network: Network) -> None:
    assert type(network).model_validate(network.model_dump(mode="json")) == network


@pytest.mark.parametrize(
    "network",
    [densenet_config(), resnet_config(), efficientnet_config(squeeze=0.5)],
    ids=lambda network: network.family,
)
def test_equal_seeds_begin_with_equal_weights(network: Network) -> None:
    twice = []
    for _ in range(2):
        torch.manual_seed(3)
        twice.append(family.build(network, 3, 10).state_dict())
    assert all(torch.equal(value, twice[1][name]) for name, value in twice[0].items())
