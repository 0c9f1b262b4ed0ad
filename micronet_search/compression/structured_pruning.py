"""Structured pruning: whole channels are removed, which leaves a thinner network.

Torch-Pruning's dependency graph (Fang et al., 2023) tells which layers share their channels. How
many go follows from shapes alone; the weights only decide which ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from micronet_search.compression.technique import Technique
from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input
from micronet_search.network.layers import Join
from micronet_search.network.parts import Part
from micronet_search.network.precision import Plan
from micronet_search.network.shapes import Passed, weighted

Cut = tuple[nn.Module, Callable[[nn.Module, list[int]], object]]
"""A layer, and the function that removes some of its input or output channels."""

MAX_VALUES = 100_000_000
"""Parameters, and values between layers, of a network that is thinned: 400 MB each."""


class TooLargeError(ValueError):
    """The network to thin would fill the memory."""


def thin(network: nn.Module, image: Input, ratio: float) -> None:
    """Removes a fraction of the output channels in place, rounded down; one of each group stays.

    Of each set of channels that layers share, those with the least mean square of weights go. As
    many go from every group of every grouped convolution that reads or makes them. All remaining
    parameters take gradients afterwards. The network ends in a linear layer and is not on the
    `meta` device.
    """
    remove(choose(network, image, ratio))


def choose(network: nn.Module, image: Input, ratio: float) -> dict[Cut, list[int]]:
    """Returns the channels that `thin` removes, in ascending order."""
    chosen: defaultdict[Cut, set[int]] = defaultdict(set)
    for shared in _shared_channels(network, image):
        gone = _least(shared, ratio)
        for item in shared if gone else ():
            here = zip(item.idxs, item.root_idxs, strict=True)
            chosen[item.dep.layer, item.dep.handler].update(i for i, root in here if root in gone)
    return {
        cut: sorted(channels)
        for cut, channels in chosen.items()
        if isinstance(cut[0], nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    }


def remove(chosen: Mapping[Cut, list[int]]) -> None:
    """Removes channels from their layers, in place."""
    for (layer, remove_from), channels in chosen.items():
        remove_from(layer, channels)


def _shared_channels(network: nn.Module, image: Input) -> Iterator[Any]:
    """Yields each set of channels that layers share once, as a group of Torch-Pruning."""
    import torch_pruning as tp

    device, shape = next(network.parameters()).device, (image.channels, image.height, image.width)
    inputs = [torch.zeros(1, *shape, device=device)]  # a bare tensor loses its batch dimension
    convolutions = [m for m in network.modules() if type(m) is nn.Conv2d]
    mistaken = [c for c in convolutions if _channel_by_channel(c) and not _is_depthwise(c)]
    training = network.training
    network.requires_grad_(True)
    for conv in mistaken:
        conv.__class__ = _Grouped
    try:
        with torch.enable_grad():
            pruners = {_Grouped: tp.function.PrunerBox[tp.ops.OPTYPE.CONV]}
            graph = tp.DependencyGraph().build_dependency(
                network, inputs, customized_pruners=pruners
            )
    finally:
        network.train(training)
        for conv in mistaken:
            conv.__class__ = nn.Conv2d
    for node in graph.module2node.values():
        # other types would make it search for the offsets of all joined channels, for each set
        node.type = tp.ops.OPTYPE.ELEMENTWISE
    seen: set[nn.Module] = set()
    for layer in convolutions:
        # channels of a convolution with a group for each of them go with the channels that it reads
        if layer in seen or _channel_by_channel(layer):
            continue
        channels = range(layer.out_channels)
        shared = graph.get_pruning_group(layer, tp.prune_conv_out_channels, channels)
        seen.update(dep.layer for dep, _ in shared if dep.handler == tp.prune_conv_out_channels)
        yield shared


def _channel_by_channel(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.out_channels > 1


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return _channel_by_channel(conv) and conv.groups == conv.in_channels


class _Grouped(nn.Conv2d):
    """A convolution with a group for each output channel, that reads more channels than that.

    Torch-Pruning would take it for a depthwise one.
    """


class _Set:
    """Channels that layers share, as `_shared_channels` finds them, by shapes alone."""

    def __init__(self, size: int, chunks: int = 1, whole: bool = False) -> None:
        self.size, self.chunks, self.whole = size, chunks, whole
        self._joined: _Set | None = None

    def found(self) -> _Set:
        """Returns the set that this one is part of by now."""
        return self if self._joined is None else self._joined.found()

    def join(self, other: _Set) -> None:
        """Makes one set of two."""
        mine, its = self.found(), other.found()
        if mine is not its:
            mine.chunks, mine.whole = math.lcm(mine.chunks, its.chunks), mine.whole or its.whole
            its._joined = mine

    def left(self, ratio: float) -> int:
        """Returns how many of the channels stay."""
        found = self.found()
        gone = 0 if found.whole else found.chunks * _removed(found.size // found.chunks, ratio)
        return found.size - gone


def _sets(layers: Sequence[Passed]) -> dict[Passed, tuple[_Set, ...]]:
    """Returns the sets of channels that make up the output of each layer, and the image."""
    pixels = layers[0].sources[0]
    found: dict[Passed, tuple[_Set, ...]] = {pixels: (_Set(pixels.channels, whole=True),)}
    for layer in layers:
        kind, options = layer.part.kind, layer.part.options
        found[layer] = read = found[layer.sources[0]]
        if kind is nn.Conv2d:
            groups, out = options["groups"], options["out_channels"]
            if layer.part.is_depthwise and groups == out:
                continue  # the channels of a depthwise one are those that it reads
            for channels in read if groups > 1 else ():
                # groups that also read other channels would have to lose as many of those
                channels.join(_Set(channels.size, groups, whole=len(read) > 1))
            found[layer] = (_Set(out, groups),)
        elif kind is nn.Linear:
            found[layer] = (_Set(options["out_features"], whole=True),)
        elif kind is Join:
            found[layer] = read + found[layer.sources[1]]
        elif len(layer.sources) > 1:
            for first, second in zip(read, found[layer.sources[1]], strict=True):
                first.join(second)
    return found


def _thinner(layers: Sequence[Passed], ratio: float) -> dict[str, Part]:
    """Returns the layers that are left after `thin`, by name, from shapes alone."""
    sets = _sets(layers)
    left = cache(lambda channels: sum(each.left(ratio) for each in channels))
    found = {}
    for layer in layers:
        part, read = layer.part, left(sets[layer.sources[0]])
        if part.kind is nn.Conv2d:
            out, depthwise = left(sets[layer]), sets[layer] is sets[layer.sources[0]]
            groups = out if depthwise else part.options["groups"]
            found[layer.name] = part.changed(in_channels=read, out_channels=out, groups=groups)
        elif part.kind is nn.Linear:
            found[layer.name] = part.changed(in_features=read)
        elif part.kind is nn.BatchNorm2d:
            found[layer.name] = part.changed(num_features=read)
    return found


def _removed(size: int, ratio: float) -> int:
    """Returns how many of so many channels go: one at least stays."""
    # a tolerance, so that 0.3 of 10 channels are 3
    return min(math.floor(ratio * size + 1e-9), size - 1)


def _least(shared: Any, ratio: float) -> set[int]:
    """Returns the channels of a set that go, by their number in its first layer."""
    import torch_pruning as tp

    read = [(dep, ids) for dep, ids in shared if isinstance(dep.layer, nn.Conv2d)]
    grouped = [(d, ids) for d, ids in read if d.layer.groups > 1 and not _is_depthwise(d.layer)]
    for dep, channels in grouped:
        if dep.handler == tp.prune_conv_in_channels and len(channels) < dep.layer.in_channels:
            return set()  # its groups also read other channels, of which as many would have to go
    chunks = math.lcm(*(dep.layer.groups for dep, _ in grouped))
    size = shared[0].dep.layer.out_channels // chunks
    if (count := _removed(size, ratio)) == 0:
        return set()
    # as many of each chunk, at the same places
    importance = tp.importance.MagnitudeImportance(p=2)(shared)
    places = importance.view(chunks, size).mean(0).argsort(stable=True)[:count].tolist()
    return {chunk * size + place for chunk in range(chunks) for place in places}


class ChannelPruning(Technique):
    """Removes channels from the layers, and fine-tunes the thinner network."""

    stage, field, reshapes = "thin", "structured_pruning", True

    def transform(self, network: nn.Module, candidate: Candidate) -> None:
        """Removes channels, in place."""
        # which channels layers share is the same for all sizes of the image, so take the least
        side = 2**candidate.network.halvings
        image = Input(channels=candidate.input.channels, height=side, width=side)
        thin(network, image, self.config(candidate).ratio)

    def reshape(self, layers: Sequence[Passed], candidate: Candidate) -> Mapping[str, Part]:
        """Returns the thinner layers. Raises TooLargeError where thinning would fill the memory."""
        weights = weighted(layers).values()
        values = sum(part.options.get("out_channels", 0) for part in weights)
        sizes = {
            "parameters": sum(layer.part.parameters for layer in layers),
            "values between its layers": values * 4**candidate.network.halvings,
        }
        for name, total in sizes.items():
            if total > MAX_VALUES:
                found = f"the network to thin has {total:,} {name}"
                raise TooLargeError(f"{found}, expected at most {MAX_VALUES:,}")
        return _thinner(layers, self.config(candidate).ratio)

    def has_effect(self, candidate: Candidate) -> bool:
        """Returns whether some channels may go."""
        return candidate.structured_pruning is not None and candidate.structured_pruning.ratio > 0

    def figures(self, candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
        """Yields the share of channels that go."""
        if self.has_effect(candidate):
            yield "channels removed from each layer", f"{self.config(candidate).ratio:.2%}"


TECHNIQUE = ChannelPruning()
