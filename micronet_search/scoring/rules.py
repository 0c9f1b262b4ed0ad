"""The rules that make a score of a cost."""

from dataclasses import asdict, dataclass

from micronet_search.scoring.cost import Cost, Layer

IMT_PARAMETERS = 5.6e6
IMT_MACS = 2.8e8
FREE_BITS = 16
WIDERESNET_28_10_PARAMETERS = 36.5e6
WIDERESNET_28_10_OPERATIONS = 10.49e9

PER_ELEMENT = {
    "norm": (1, 1),
    "add": (0, 1),
    "scale": (1, 0),
    "relu": (1, 0),
    "sigmoid": (2, 1),
    "swish": (3, 1),
}
"""Multiplications and additions for one element of the output, by the kind of the layer."""


@dataclass(frozen=True)
class Score:
    """A leaderboard figure, the sum of a part for what is stored and one for what is computed."""

    parameters: float
    operations: float

    @property
    def score(self) -> float:
        """The sum of both parts; lower is better."""
        return self.parameters + self.operations

    def to_json(self) -> dict[str, float]:
        """Returns both parts and their sum as plain values."""
        return {**asdict(self), "score": self.score}


def imt(cost: Cost) -> Score:
    """Scores by the published rule of IMT Atlantique's course on efficient deep learning.

    Nonzeros count by their bits, and multiply-accumulates at the wider of weight and input. Zeros
    lower the first part alone, and no mask is charged; but signs with zeros among them are no
    signs any more, and count two bits.
    """
    parameters = sum(t.nonzeros * t.value_bits for t in cost.stored) / 32 / IMT_PARAMETERS
    operations = sum(layer.macs * layer.bits for layer in cost.layers) / 32 / IMT_MACS
    return Score(parameters, operations)


def micronet2019(cost: Cost) -> Score:
    """Scores by the rule of the MicroNet challenge at NeurIPS 2019 for CIFAR-100.

    Source: the challenge's page (micronet-challenge.github.io) and its counting code
    (google-research/micronet_challenge/counting.py), which does not know hard-sigmoid and
    hard-swish: they count like sigmoid and swish. Stored tensors count in bits, sparse ones with a
    mask of one bit an element. A dot product of n nonzero weights is n multiplications and n - 1
    additions, a bias one addition more; a mean of n values n - 1 additions and one multiplication.

    Multiplications count at the wider of their inputs, additions at 32 bits. Where no layer is
    integer, 16 bits are free for parameters and multiplications. Both parts are relative to
    WideResNet-28-10: 36.5e6 parameters and 10.49e9 operations.
    """
    packed, multiplications, additions = cost.storage_bits, 0, 0
    if not cost.integer:
        packed = sum(t.packed(FREE_BITS) for t in cost.stored)
    for layer in cost.layers:
        products, sums = _operations(layer)
        multiplications += products * (layer.bits if cost.integer else FREE_BITS)
        additions += sums
    return Score(
        packed / 32 / WIDERESNET_28_10_PARAMETERS,
        (multiplications / 32 + additions) / WIDERESNET_28_10_OPERATIONS,
    )


def _operations(layer: Layer) -> tuple[int, int]:
    """Returns the multiplications and the additions of a layer."""
    if layer.kind in PER_ELEMENT:
        products, sums = PER_ELEMENT[layer.kind]
        return products * layer.outputs, sums * layer.outputs
    if layer.kind == "pool":
        return layer.outputs, (layer.window - 1) * layer.outputs
    weights, *others = layer.stored
    products = layer.macs * weights.nonzeros // weights.elements
    biases = layer.outputs if any(t.role == "bias" for t in others) else 0
    return products, max(products - layer.outputs, 0) + biases


RULES = {"imt": imt, "micronet2019": micronet2019}
"""Every rule by name; each trial records the scores by all of them."""


def scores(cost: Cost) -> dict[str, Score]:
    """Returns the score by every rule."""
    return {name: rule(cost) for name, rule in RULES.items()}
