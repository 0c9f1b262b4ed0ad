"""The network of a trial after its first fit, as a file with which the fit of another begins."""

from collections.abc import Mapping

from torch import Tensor, nn

from micronet_search import shipped
from micronet_search.store import checkpoint


def state(network: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of a network's state, on the CPU."""
    return {name: each.detach().to("cpu", copy=True) for name, each in network.state_dict().items()}


def pack(state: Mapping[str, Tensor]) -> bytes:
    """Returns the file of a state."""
    return checkpoint.pack(dict(state), None)


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
