"""EfficientNet (Tan and Le, 2019), and with fused convolutions EfficientNetV2 (2021)."""

from micronet_search.config.network import EfficientNet
from micronet_search.network import layers
from micronet_search.network.layers import (
    IDENTITY,
    convolution,
    normed,
    residual,
    squeeze_excite,
)
from micronet_search.network.parts import Part, chain, sequential


def describe(config: EfficientNet, channels: int, classes: int) -> Part:
    """Describes a network, as `family.describe` does."""
    width = config.stem.width
    stem = normed(layers.stem(config.stem, channels), width, config.activation)
    parts = {"stem": stem}
    for block, leaving in enumerate(config.widths):
        inverted = []
        for layer in range(config.layers[block]):
            stride = 1 if layer else config.strides[block]
            body = _body(config, block, width, stride)
            alike = width == leaving and stride == 1
            inverted.append(residual(body, IDENTITY, IDENTITY) if alike else body)
            width = leaving
        parts[f"block{block + 1}"] = chain(*inverted)
    if config.head:
        parts["head"] = normed(convolution(width, config.head, 1), config.head, config.activation)
    return layers.with_classifier(parts, config.head or width, classes)


def _body(config: EfficientNet, block: int, channels: int, stride: int) -> Part:
    """Describes one layer: it expands, filters, squeezes and excites, and projects."""
    kernel, groups, name = config.kernels[block], config.groups[block], config.activation
    hidden, width = channels * config.expansions[block], config.widths[block]
    fused = config.convolution == "plain"
    project, last = convolution(hidden, width, 1, groups=groups), None
    parts: dict[str, Part] = {}
    if fused and hidden == channels:  # one convolution is all that is left, so it is activated
        project, last = convolution(channels, width, kernel, stride), name
    elif fused:
        parts["expand"] = normed(convolution(channels, hidden, kernel, stride), hidden, name)
    else:
        if hidden > channels:
            expand = convolution(channels, hidden, 1, groups=groups)
            parts["expand"] = normed(expand, hidden, name)
        depthwise = convolution(hidden, hidden, kernel, stride, groups=hidden)
        between = layers.inside(config.between, hidden, name)
        parts["depthwise"] = sequential({"conv": depthwise, **between})
        if hidden == channels and "activation" not in between:  # the layer would have none
            last = name
    if config.squeeze[block]:
        reduced = max(1, int(channels * config.squeeze[block]))
        parts["squeeze"] = squeeze_excite(hidden, reduced, name)
    parts["project"] = normed(project, width, last)
    return sequential(parts)
