"""Where MLflow keeps the records, and how it is reached."""

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
from micronet_search.tracking.passwords import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SERVERS = ("http://", "https://", "databricks", "uc:")
_STATUS = re.compile(r"failed with error code (\d{3}) ")
_TRY_LATER = {408, 425, 429, 499}
"""The HTTP statuses below 500 that say nothing about what was asked."""
# What means something else in the address of a database; quoted it would too, to MLflow.
_NOT_IN_AN_ADDRESS = re.compile(r"\?|%[0-9A-Fa-f]{2}")
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


class TrackingError(ValueError):
    """MLflow's store cannot be reached or refuses what it is told.

    Attributes:
        passing: Whether the same may be taken later: the store is another process, a tracking
            server or a database server, which may come back, or a file that another program keeps
            locked.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def tracking_uri(tracking: Tracking, root: Root) -> str:
    """The URI of MLflow's store: the sweep's, else `MLFLOW_TRACKING_URI`, else SQLite's.

    Raises:
        ValueError: It is SQLite's, and the root's name cannot be part of such a URI.
    """
    given = tracking.mlflow or os.environ.get("MLFLOW_TRACKING_URI")
    path = str(root.mlflow_db.absolute())
    if not given and (found := _NOT_IN_AN_ADDRESS.search(path)):
        raise ValueError(
            f"found {found.group()!r} in {path}, expected a root without '?', and without '%' "
            "before two hexadecimal digits: MLflow would open another file"
        )
    return given or f"sqlite:///{path}"


def is_server(uri: str) -> bool:
    """Whether a tracking server answers there, rather than a database."""
    return uri.startswith(_SERVERS)


def artifact_location(tracking: Tracking, root: Root, study: str) -> str | None:
    """The URI of a study's artifacts; None leaves the choice to the tracking server."""
    if tracking.artifacts or is_server(tracking_uri(tracking, root)):
        return tracking.artifacts
    return (root.artifacts.absolute() / study).as_uri()


def quieten() -> None:
    """Turns off MLflow's telemetry and its chatter, unless the user has set them.

    The variables count at MLflow's first import and in the processes that it starts.
    """
    if "DO_NOT_TRACK" not in os.environ:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # where it is imported already
        # what fails there is raised as well, and told in one line
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def connect(uri: str) -> MlflowClient:
    """A client of the store, whose tables are created where it is an empty database.

    Raises:
        TrackingError: Nothing answers within a few seconds.
    """
    quieten()
    from mlflow import MlflowClient

    with reported(uri):
        if path := database_file(uri):
            prepare(path)
        elif not is_server(uri) and "://" in uri and not uri.startswith("file:"):
            _try_database(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """Turns what MLflow, its database or the disk raises into one clear line, within seconds.

    Raises:
        TrackingError: Instead of theirs, which is its cause.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _impatient():
            yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        reason = masked(_first_line(error), uri)[:300]
        message = (
            f"MLflow's store {masked(uri)} failed: {reason}; expected a tracking server or a "
            "database that answers (tracking.mlflow or MLFLOW_TRACKING_URI)"
        )
        raise TrackingError(message, passing=_may_pass(uri, error)) from error


def _may_pass(uri: str, error: Exception) -> bool:
    """Whether the store did not answer, rather than refuse."""
    from sqlalchemy.exc import DBAPIError

    causes = list(_causes(error))
    if uri.startswith("sqlite"):
        return any(map(is_locked, causes))
    if is_server(uri):
        return not _is_refusal(error)
    return any(isinstance(cause, DBAPIError) for cause in causes)


def _is_refusal(error: Exception) -> bool:
    """Whether a tracking server has answered that it does not take this, now or later."""
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException

    status = getattr(getattr(error, "response", None), "status_code", 500)  # of an artifact
    if isinstance(error, MlflowException):
        said = _STATUS.search(str(error))  # MLflow makes a 500 of those that it does not know
        status = int(said[1]) if said else ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
    return 400 <= status < 500 and status not in _TRY_LATER


def _first_line(error: BaseException) -> str:
    """What failed at the bottom, where MLflow repeats the whole request at the top."""
    *_, error = _causes(error)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on to the bottom."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _try_database(uri: str) -> None:
    """Opens a database once, where MLflow would try ten times in a hundred seconds."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError

    try:
        engine = sqlalchemy.create_engine(uri)
    except ValueError as error:  # a port that is no number
        raise ArgumentError(str(error)) from error
    try:
        engine.connect().close()
    finally:
        engine.dispose()


@contextmanager
def _impatient() -> Iterator[None]:
    """Has MLflow give up on a server in seconds, where it would try for four minutes.

    Whoever asks waits meanwhile, at a start the user and later the trials; what could not be told
    is told later.
    """
    ours = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
