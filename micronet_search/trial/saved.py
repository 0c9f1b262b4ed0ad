"""The checkpoint of a trial: what it holds, and how one that does not fit is told."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from micronet_search.store import checkpoint
from micronet_search.store.outcome import Epoch
from micronet_search.trial.history import History
from micronet_search.trial.stages import Stage


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds. The network and the fit judge their tensors themselves.

    Attributes:
        epoch: Epochs trained.
        entered: Stages that have begun.
        curve: A row for each epoch.
        seconds: The time of each stage.
        started: Unix time of the first start.
        network: The network's state.
        fit: The state of the current stage's training; None between two stages.
        fitted: The network's state after the first fit; None before it ends, and in checkpoints of
            versions that did not keep it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    epoch: int
    entered: Annotated[int, Field(ge=0)]
    curve: list[Epoch]
    seconds: dict[str, float]
    started: float
    network: dict[str, Any]
    fit: dict[str, Any] | None
    fitted: dict[str, Tensor] | None = None

    @property
    def history(self) -> History:
        """What the trial had done by then."""
        return History(self.started, self.curve, self.seconds)


_SAVED = TypeAdapter(Saved)


def pack(
    history: History,
    entered: int,
    network: dict[str, Any],
    fit: dict[str, Any] | None,
    fitted: dict[str, Tensor] | None = None,
) -> bytes:
    """Packs a trial, as `unpack` reads it; the arguments are those of `Saved`."""
    state = {
        "epoch": history.epoch,
        "entered": entered,
        "curve": [asdict(row) for row in history.curve],
        "seconds": history.seconds,
        "started": history.started,
        "network": network,
        "fit": fit,
        "fitted": fitted,
    }
    return checkpoint.pack(*checkpoint.flatten(state))


def read_history(path: Path) -> History:
    """Reads what a trial had done by its checkpoint, for people; the tensors are not looked at.

    Raises:
        DamagedCheckpointError: It is no checkpoint of a trial.
    """
    with damaged_where_it_does_not_fit():
        found = checkpoint.read_plain(path) | {"network": {}, "fit": None, "fitted": None}
        return _SAVED.validate_python(found).history


def unpack(content: bytes, stages: Sequence[Stage]) -> Saved:
    """Returns what a checkpoint holds, before anything is made as it says.

    Args:
        content: The file.
        stages: Of the trial.

    Raises:
        DamagedCheckpointError: It is damaged, or none of a trial with these stages.
    """
    with damaged_where_it_does_not_fit():
        saved = _SAVED.validate_python(checkpoint.unflatten(*checkpoint.unpack(content)))
        stage = stages[saved.entered - 1]
        after, end = (stage.start, stage.end) if saved.entered else (-1, 0)
        if not after < saved.epoch <= end or (saved.fit is None) != (saved.epoch == end):
            raise ValueError(f"epoch {saved.epoch} is not in stage {saved.entered}")
        if len(saved.curve) != saved.epoch:
            raise ValueError(f"found {len(saved.curve)} rows of {saved.epoch} epochs")
    return saved


@contextmanager
def damaged_where_it_does_not_fit() -> Iterator[None]:
    """Has whatever a wrong checkpoint leads to count as its damage.

    Raises:
        DamagedCheckpointError: In the place of another error; exhausted memory stays what it is.
    """
    try:
        yield
    except (torch.OutOfMemoryError, checkpoint.DamagedCheckpointError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"the checkpoint is damaged, or not one of this trial: {reason}"
        raise checkpoint.DamagedCheckpointError(message) from error
