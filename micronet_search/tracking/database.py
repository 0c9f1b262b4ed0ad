"""MLflow's store as an SQLite file."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from micronet_search.store.files import write_bytes
from micronet_search.store.paths import Root

PATIENCE = 5.0  # seconds that another program may keep it locked before it counts as silent
_CREATION = 60.0  # seconds that another driver may take to create it
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)


def database_file(uri: str) -> Path | None:
    """Returns the file of an SQLite database; None for other stores, and for one in memory."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):  # MLflow says what is wrong with it
        return None
    is_file = url.database not in (None, "", ":memory:") and "uri" not in url.query
    return Path(str(url.database)) if is_file else None


def is_locked(error: BaseException) -> bool:
    """Returns whether an error says that another program uses the database."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says more exactly why
        return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error, Timeout)


def prepare(path: Path) -> None:
    """Makes a database ready for MLflow, which would wait much longer for a locked one.

    It is created where it is missing, and follows artifacts that were moved with it.
    """
    with closing(sqlite3.connect(path, PATIENCE)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()
    if not path.stat().st_size:
        _create(path)
    follow(path)


def _create(path: Path) -> None:
    """Creates MLflow's tables in another file, which then takes the place of the empty one.

    Two processes that create them at once leave a database that cannot be used, as does a kill.
    """
    from mlflow import MlflowClient

    with FileLock(f"{path}.lock", timeout=_CREATION):
        if path.stat().st_size:  # another process was faster
            return
        with TemporaryDirectory() as folder:
            new = Path(folder) / path.name
            MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
            # a copy, because MLflow keeps the new one open
            write_bytes(path, new.read_bytes())


def follow(path: Path) -> None:
    """Has MLflow find the artifacts beside a database that was moved together with them.

    MLflow keeps absolute locations. A study whose artifacts never were beside the database stays
    as it is. An `sqlite3.Error` means that the database is locked, or is not MLflow's.
    """
    if not os.access(path, os.W_OK):
        return  # an archive can be looked at nevertheless
    artifacts = Root(path.parent).artifacts.absolute()
    with closing(sqlite3.connect(path, PATIENCE)) as database, database:
        found = database.execute("SELECT experiment_id, name, artifact_location FROM experiments")
        for experiment, name, location in found.fetchall():
            here, before = artifacts / name, location or ""
            is_default = before.startswith("file:") and before.endswith(f"/artifacts/{name}")
            if not is_default or before == here.as_uri() or not here.is_dir():
                continue
            values = {"id": experiment, "now": here.as_uri(), "before": f"{before}/"}
            for table, column in _LOCATIONS:
                database.execute(
                    f"UPDATE {table} SET {column} = :now || substr({column}, length(:before)) "
                    f"WHERE experiment_id = :id AND instr({column} || '/', :before) = 1",
                    values,
                )
