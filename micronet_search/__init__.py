"""Searches for the cheapest convolutional network that still reaches a target accuracy.

What notebooks and scripts use is here: `run`, `load_sweep`, `score`, `Study`. It is loaded when it
is asked for, because PyTorch and Optuna take seconds.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from micronet_search.api import Study, StudyTrial, load_sweep, run, score

__all__ = ["Study", "StudyTrial", "__version__", "load_sweep", "run", "score"]

try:
    __version__ = version("micronet-search")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from micronet_search import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
