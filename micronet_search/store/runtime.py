"""What the exported network of a trial takes in ONNX Runtime: the content of `runtime.json`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from micronet_search.store.files import read_json, write_json


@dataclass(frozen=True)
class Runtime:
    """Figures by their names, and the Unix time at which they were measured."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    measured: float
    figures: dict[str, Annotated[float, Field(ge=0.0)]]


_RUNTIMES = TypeAdapter(Runtime)


def write_runtime(path: Path, runtime: Runtime) -> None:
    """Writes the file."""
    write_json(path, asdict(runtime))


def read_runtime(path: Path) -> Runtime:
    """Reads the file; one that is damaged is a ValueError."""
    try:
        return _RUNTIMES.validate_python(read_json(path))
    except ValidationError:
        raise ValueError(
            f"{path} is damaged, expected figures by their names; `micronet-search export` writes "
            "it anew"
        ) from None
