"""The way to MLflow's store: its address, a client, and its errors without passwords."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking.database import database_file, is_locked, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SERVERS = ("http://", "https://", "databricks", "uc:")
_STATUS = re.compile(r"failed with error code (\d{3}) ")
_TRY_LATER = {408, 425, 429, 499}  # statuses below 500 that say nothing about what was asked
# What MLflow reads as something else in the address of a database, even where it is quoted.
_NOT_IN_AN_ADDRESS = re.compile(r"\?|%[0-9A-Fa-f]{2}")
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # 5 s
# What stands between "//" and the last "@" of an address. A password that is not quoted as it
# should be can hold both "/" and "@".
_BEFORE_HOST = re.compile(r"//(?:[^\s/:@]*:\S*|[^\s/@]*)@")
# A value that is named as a secret, up to the next "&"; a quote at its end is not part of it.
_NAMED = re.compile(
    r"(?i)((?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access)_?key|odbc_connect)\w*=)"
    r"([^\s&]+?)(?=['\"]?(?:[\s&]|$))"
)


class TrackingError(ValueError):
    """MLflow's store does not answer, or refuses what it is told.

    It may take the same later if the error is `passing`: a server may come back, and a file may be
    locked by another program.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def tracking_uri(tracking: Tracking, root: Root) -> str:
    """Returns the URI of MLflow's store: the sweep's, else `MLFLOW_TRACKING_URI`, else SQLite's."""
    if given := tracking.mlflow or os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    path = str(root.mlflow_db.absolute())
    if found := _NOT_IN_AN_ADDRESS.search(path):
        raise ValueError(
            f"found {found.group()!r} in {path}, expected a root without '?', and without '%' "
            "before two hexadecimal digits: MLflow would open another file"
        )
    return f"sqlite:///{path}"


def is_server(uri: str) -> bool:
    """Returns whether a URI is that of a tracking server, rather than of a database."""
    return uri.startswith(_SERVERS)


def artifact_location(tracking: Tracking, root: Root, study: str) -> str | None:
    """Returns the URI of a study's artifacts; None leaves the choice to the tracking server."""
    if tracking.artifacts or is_server(tracking_uri(tracking, root)):
        return tracking.artifacts
    return (root.artifacts.absolute() / study).as_uri()


def quieten() -> None:
    """Turns off MLflow's telemetry and its chatter, unless the user has set them.

    MLflow reads the variables at its first import, and in the processes that it starts.
    """
    if "DO_NOT_TRACK" not in os.environ:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # where it is imported already
        # its errors are raised as well, and told in one line
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def connect(uri: str) -> MlflowClient:
    """Returns a client of the store within a few seconds; an empty database gets its tables."""
    quieten()
    import sqlalchemy
    from mlflow import MlflowClient
    from sqlalchemy.pool import NullPool

    with reported(uri):
        if path := database_file(uri):
            prepare(path)
        elif not is_server(uri) and "://" in uri and not uri.startswith("file:"):
            try:
                # once, where MLflow would try ten times in a hundred seconds
                sqlalchemy.create_engine(uri, poolclass=NullPool).connect().close()
            except ValueError as error:  # a port that is no number
                raise sqlalchemy.exc.ArgumentError(str(error)) from error
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """Turns an error of MLflow, its database or the disk into a TrackingError of one line.

    It comes within seconds: MLflow itself would try a server for four minutes, and trials would
    wait.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    ours = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        first = _causes(error)[-1]  # MLflow repeats the whole request in the last one
        reason = (str(first).strip() or type(first).__name__).splitlines()[0]
        message = (
            f"MLflow's store {masked(uri)} failed: {masked(reason, uri)[:300]}; expected a "
            "tracking server or a database that answers (tracking.mlflow or MLFLOW_TRACKING_URI)"
        )
        raise TrackingError(message, passing=_may_pass(uri, error)) from error
    finally:
        for name in ours:
            del os.environ[name]


def _causes(error: BaseException) -> list[BaseException]:
    cause = error.__cause__ or error.__context__
    return [error, *(_causes(cause) if cause else ())]


def _may_pass(uri: str, error: Exception) -> bool:
    """Returns whether the store may take the same later: it is away, locked, or ill (5xx)."""
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException
    from sqlalchemy.exc import DBAPIError

    if uri.startswith("sqlite"):
        return any(map(is_locked, _causes(error)))
    if not is_server(uri):
        return any(isinstance(cause, DBAPIError) for cause in _causes(error))
    status = getattr(getattr(error, "response", None), "status_code", 500)  # of an upload
    if isinstance(error, MlflowException):
        said = _STATUS.search(str(error))  # MLflow makes a 500 of a status unknown to it
        status = int(said[1]) if said else ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
    return not 400 <= status < 500 or status in _TRY_LATER


def masked(text: str, address: str = "") -> str:
    """Takes passwords out of a text: before a host, and in parameters such as `token`.

    If the text is about an address, parts of its password are taken out too: an error may name one
    as the host where the password is not quoted as it should be.
    """
    for part in _parts(address):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "***", text)
    return _BEFORE_HOST.sub("//", _NAMED.sub(r"\1***", text))


def _parts(address: str) -> Iterator[str]:
    """Yields the parts of an address's passwords between the characters where it may be cut."""
    pairs = [before.strip("/@").partition(":") for before in _BEFORE_HOST.findall(address)]
    secrets = [password if colon else user for user, colon, password in pairs]
    secrets += [value for _, value in _NAMED.findall(address)]
    for secret in secrets:
        yield from filter(None, re.split(r"[/:@?#]", secret))
