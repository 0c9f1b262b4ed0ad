"""What MLflow has not been told yet, as it waits in the study's folder: the `record.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from micronet_search.store.files import read_json, write_json

T = TypeVar("T")
_FORBID = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Start:
    """What waits of a driver's start and end.

    Attributes:
        environment: What the study runs on, if MLflow does not know that it began.
        finished: Whether the study is, if MLflow does not know that the driver ended.
    """

    __pydantic_config__ = _FORBID

    environment: dict[str, str] | None = None
    finished: bool | None = None


@dataclass(frozen=True)
class Note:
    """What waits of a trial that has ended, beside its outcome.

    Attributes:
        entered: When it ended, in Unix time.
        params: The values of the searched leaves, by their dotted paths.
        step: How many trials had ended, this one included.
        hypervolume: Of the front by then.
        best_score: The lowest among the feasible trials by then, if there were any.
    """

    __pydantic_config__ = _FORBID

    entered: float
    params: dict[str, Any]
    step: int
    hypervolume: float
    best_score: float | None


_STARTS, _NOTES = TypeAdapter(Start), TypeAdapter(Note)


def write(path: Path, note: Start | Note) -> None:
    """Has something wait."""
    write_json(path, asdict(note))


def read_start(path: Path) -> Start:
    """What waits of a driver's start and end; nothing without the file.

    Raises:
        ValueError: The file is damaged.
    """
    return _read(path, _STARTS) if path.exists() else Start()


def read_note(path: Path) -> Note:
    """What waits of a trial.

    Raises:
        ValueError: The file is damaged.
    """
    return _read(path, _NOTES)


def _read(path: Path, kind: TypeAdapter[T]) -> T:
    tree = read_json(path)
    try:
        return kind.validate_python(tree)
    except ValidationError:
        raise ValueError(
            f"{path} is damaged, expected what MLflow is to be told; `micronet-search run` makes "
            "it anew"
        ) from None
