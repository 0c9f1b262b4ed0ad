"""How a network is made smaller, as a candidate gives it.

Each technique has `epochs` of fine-tuning, whose peak learning rate is `learning_rate_factor` times
`training.learning_rate`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from micronet_search.config.model import (
    INTEGER,
    Bits,
    Fraction,
    Listed,
    Model,
    NotNegative,
    Share,
    TextLike,
    WeightBits,
)

ROUNDS = 4
FactorizationKind = Literal["svd", "tucker"]
Epochs = NotNegative
_BLOCK = "block[1-9][0-9]?"
BlockName = Annotated[str, TextLike(_BLOCK, "block1, block2 and so on")]
LayerSet = Annotated[
    str, TextLike(f"first|last|depthwise|{_BLOCK}", "first, last, depthwise or blockN")
]
"""`first` and `last` layer, all `depthwise` convolutions, or a block by its number from 1."""


class StructuredPruning(Model):
    """Channels removed, so that a thinner network is left.

    Attributes:
        ratio: Fraction of each layer's output channels that goes, those with the smallest weights.
            As many go from each group of the grouped convolutions that read them; what several
            layers share (a residual sum) goes from all of them. Channels that a grouped
            convolution reads from several layers joined stay, and so do the classes.
        epochs: Epochs of fine-tuning afterwards; 0 for none.
        learning_rate_factor: Peak learning rate of the fine-tuning, as a factor of
            `training.learning_rate`.
    """

    ratio: Fraction
    epochs: Epochs = 0
    learning_rate_factor: Share = 0.3


class Factorization(Model):
    """Convolutions as products of smaller ones, where those have fewer weights.

    Attributes:
        kind: `svd`: k x k to the rank, then 1x1 (the unfolded kernel; also for 1x1 convolutions and
            linear layers). `tucker`: 1x1, k x k, 1x1 for convolutions larger than 1x1 (Tucker-2,
            Kim et al., 2016).
        ratio: The rank as a fraction of the full one.
        epochs: Epochs of fine-tuning afterwards; 0 for none.
        learning_rate_factor: Peak learning rate of the fine-tuning, as a factor of
            `training.learning_rate`.
    """

    kind: FactorizationKind
    ratio: Share
    epochs: Epochs = 0
    learning_rate_factor: Share = 0.3


class Pruning(Model):
    """Zeros among the weights, by magnitude over the whole network.

    Attributes:
        kind: `unstructured`: single weights.
        sparsity: Fraction of the weights of convolutions and linear layers that becomes zero.
        exclude: Layers that are left alone, and out of the sparsity.
        schedule: How the sparsity rises over the first three quarters of the epochs: `cubic` (Zhu
            and Gupta, 2017); `iterative`, in rounds, each of which removes the same fraction of
            what is left (Frankle and Carbin, 2019); `one-shot`, all at the start.
        rounds: Rounds of `iterative`; the other schedules have none, and keep the default.
        epochs: Epochs of fine-tuning in which the sparsity rises; 0 prunes at once.
        learning_rate_factor: Peak learning rate of the fine-tuning, as a factor of
            `training.learning_rate`.
    """

    kind: Literal["unstructured"] = "unstructured"
    sparsity: Fraction
    exclude: Listed[LayerSet] = ()
    schedule: Literal["cubic", "iterative", "one-shot"] = "cubic"
    rounds: Annotated[int, Field(ge=2, le=100)] = ROUNDS
    epochs: Epochs = 0
    learning_rate_factor: Share = 0.3

    @field_validator("exclude")
    @classmethod
    def _in_one_order(cls, exclude: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(exclude)))

    @model_validator(mode="after")
    def _rounds_where_they_count(self) -> Pruning:
        if self.schedule != "iterative":
            self._settle(rounds=ROUNDS)
        return self


class Widths(Model):
    """Bit widths of some layers that differ from those of the other layers.

    Attributes:
        weight_bits: Width of their weights; null for that of the other layers.
        activation_bits: Width of their inputs; null for that of the other layers.
    """

    weight_bits: WeightBits | None = None
    activation_bits: Bits | None = None


class Quantization(Model):
    """The bit widths, and how the network learns them.

    Attributes:
        mode: `static`: ranges of activations learned in fine-tuning, and fixed. `dynamic`: computed
            from each image as it passes. Where nothing is integer, `static`.
        weight_bits: Width of the weights; 1 is a sign times a scale for each output channel (the
            binary weights of XNOR-Net, Rastegari et al., 2016), 2 to 8 are integers, 16 half
            precision, 32 single precision.
        activation_bits: Width of the inputs of convolutions and linear layers, likewise.
        first: Widths of the first layer, or its factors, set apart. Its input is the image, which
            has 8 bits unless `activation_bits` here asks for fewer.
        last: Widths of the last layer, or its factors, set apart.
        blocks: Widths of blocks set apart, by their names: `block1`, `block2` and so on.
        epochs: Epochs of fine-tuning with quantized weights and activations, whose step sizes are
            learned; 0 where nothing is integer.
        learning_rate_factor: Peak learning rate of the fine-tuning, as a factor of
            `training.learning_rate`.
    """

    mode: Literal["static", "dynamic"] = "static"
    weight_bits: WeightBits
    activation_bits: Bits
    first: Widths = Widths()
    last: Widths = Widths()
    blocks: dict[BlockName, Widths] = Field(default_factory=dict)
    epochs: Epochs = 0
    learning_rate_factor: Share = 0.1

    @field_validator("blocks")
    @classmethod
    def _in_one_order(cls, blocks: dict[str, Any]) -> dict[str, Any]:
        return {name: blocks[name] for name in sorted(blocks, key=lambda name: int(name[5:]))}

    @model_validator(mode="after")
    def _nothing_to_learn_without_integers(self) -> Quantization:
        widths: list[Quantization | Widths] = [self, self.first, self.last, *self.blocks.values()]
        asked = [bits for found in widths for bits in (found.weight_bits, found.activation_bits)]
        if min(filter(None, asked)) > INTEGER:
            self._settle(mode="static", epochs=0)
        return self


class Compression(Model):
    """The techniques that make a trained network smaller, in their order; null for none.

    The module `micronet_search.compression.FIELD` says what each field does.

    Attributes:
        structured_pruning: Removes channels.
        factorization: Splits convolutions into products of smaller ones.
        pruning: Sets the smallest weights to zero.
        quantization: Gives weights and activations fewer bits.
    """

    structured_pruning: StructuredPruning | None = None
    factorization: Factorization | None = None
    pruning: Pruning | None = None
    quantization: Quantization | None = None
