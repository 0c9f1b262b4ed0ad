"""The network of a trial after its first fit, as a file with which the fit of another begins."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from micronet_search import shipped
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Epoch
from micronet_search.trial import saved
from micronet_search.trial.history import History


def state(network: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of a network's state, on the CPU."""
    return {name: each.detach().to("cpu", copy=True) for name, each in network.state_dict().items()}


def pack(state: Mapping[str, Tensor]) -> bytes:
    """Returns the file of a state."""
    return checkpoint.pack(dict(state), None)


def checkpoint_of(content: bytes, curve: Sequence[Epoch]) -> bytes:
    """Returns the checkpoint of a trial whose first fit was that of another trial.

    Args:
        content: The file of the network after that fit.
        curve: The rows of that fit.

    Raises:
        ValueError: The file is damaged.
    """
    tensors, _ = checkpoint.unpack(content)
    return saved.pack(History(curve=list(curve)), 1, tensors, None, tensors)


def load(network: nn.Module, content: bytes) -> None:
    """Gives a network the weights in a file.

    Raises:
        ValueError: The file is damaged, or that of another network.
    """
    try:
        tensors, _ = checkpoint.unpack(content)
        shipped.compare(tensors, network.state_dict())
    except ValueError as error:
        raise ValueError(f"the network to start from does not fit: {error}") from None
    network.load_state_dict(tensors)
