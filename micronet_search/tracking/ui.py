"""MLflow's own page, on the records of every study under a root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking.client import is_server, quieten, tracking_uri

# MLflow's job runner is for language models, and starts several processes.
_QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
_PATIENCE = 10.0  # seconds that the server has to end by itself


def serve(root: Root, tracking: Tracking, host: str, port: int) -> int:
    """Runs MLflow's server until Ctrl-C.

    Args:
        root: Where the records are by default.
        tracking: Where they are otherwise.
        host: The address to listen on; what is no private one is MLflow's to allow, through
            `MLFLOW_SERVER_ALLOWED_HOSTS`.
        port: The port to listen on.

    Returns:
        The server's exit status; 0 after Ctrl-C.

    Raises:
        ValueError: There is no record yet, a server has them, or the port is taken.
    """
    uri = tracking_uri(tracking, root)
    _check(uri, root, host, port)
    quieten()
    # MLflow opens its pages for language models first, and remembers what was chosen.
    hint = 'choose "Model training" at its top left; Ctrl-C ends it'
    print(f"MLflow on http://{_name(host)}:{port}, {hint}", flush=True)
    # In a session of its own, so that Ctrl-C reaches the server through us alone: of two signals
    # its processes tell one another with a traceback.
    server = subprocess.Popen(
        _command(uri, root, host, port), env=_QUIET | os.environ, start_new_session=True
    )
    try:
        with _interrupted_by(signal.SIGTERM, signal.SIGHUP):
            return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Has other ways to end a program do what Ctrl-C does."""
    before = [signal.signal(one, signal.default_int_handler) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _check(uri: str, root: Root, host: str, port: int) -> None:
    if is_server(uri):
        raise ValueError(f"the records are kept by the server {uri}, open that in a browser")
    if uri == tracking_uri(Tracking(), root) and not root.mlflow_db.exists():
        raise ValueError(f"{root.mlflow_db} does not exist, expected the records of a study")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server does; without this a port stays taken for a minute after its last use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"cannot listen on {host}, port {port} ({error}), expected another port, or none "
                "that another program uses"
            ) from None


def _name(host: str) -> str:
    """A host as a URL has it: an IPv6 address in brackets, this machine for every address."""
    if host in ("0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _command(uri: str, root: Root, host: str, port: int) -> list[str]:
    """Artifacts of the studies are read where they lie; the destination is for others' uploads."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
        *("--artifacts-destination", root.artifacts.absolute().as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--uvicorn-opts", "--no-access-log"),
    ]


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and the processes that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_PATIENCE)
