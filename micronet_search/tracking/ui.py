"""MLflow's own pages, on every study under a root."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking.client import is_server, quieten, tracking_uri
from micronet_search.tracking.database import database_file, follow
from micronet_search.tracking.passwords import masked

# MLflow's job runner is for language models, and starts several processes.
_QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
_PATIENCE = 10.0  # seconds that the server has to end by itself
# Runs the command that follows, and kills its process group when standard input closes: when the
# process that holds the other end is gone, even if it was killed.
_TOGETHER = 'exec 3<&0; { read -r _ <&3; kill -KILL 0; } & exec "$@" 3<&- </dev/null'
_EVERY = ("0.0.0.0", "::")


def serve(root: Root, tracking: Tracking, host: str, port: int) -> int:
    """Runs MLflow's server until Ctrl-C.

    Args:
        root: Where MLflow's store is by default.
        tracking: Where it is otherwise.
        host: The address to listen on. Requests have to name it, or this machine where it is a
            loopback address or means every address. `MLFLOW_SERVER_ALLOWED_HOSTS` overrides this.
        port: The port to listen on.

    Returns:
        The server's exit status; 0 after Ctrl-C.

    Raises:
        ValueError: The store is missing, is a server, or cannot be read, or the port is taken.
    """
    uri = tracking_uri(tracking, root)
    _check(uri, host, port)
    quieten()
    # MLflow opens its pages for language models first, and remembers what was chosen.
    hint = 'choose "Model training" at its top left; Ctrl-C ends it'
    print(f"MLflow on http://{_name(host)}:{port}, {hint}", flush=True)
    # The server has a session of its own: of two Ctrl-C its processes print a traceback.
    server = subprocess.Popen(
        ["sh", "-c", _TOGETHER, "sh", *_command(root, host, port)],
        stdin=subprocess.PIPE,
        env=_environment(uri, host),
        start_new_session=True,
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
    """Has other signals do what Ctrl-C does."""
    before = {one: signal.signal(one, signal.default_int_handler) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _check(uri: str, host: str, port: int) -> None:
    if is_server(uri):
        raise ValueError(
            f"the records are kept by the server {masked(uri)}, open that in a browser"
        )
    if path := database_file(uri):
        if not path.exists():
            raise ValueError(f"{path} does not exist, expected the records of a study")
        if path.stat().st_size:
            try:
                follow(path)
            except sqlite3.Error as error:
                raise ValueError(f"{path}: {error}, expected MLflow's database") from None
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
    """Returns a host as a URL has it: IPv6 in brackets, this machine for every address."""
    if host in _EVERY:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _allowed_hosts(host: str) -> str:
    """Returns the hosts that a request may name, at any port: behind a tunnel it is another.

    A web page could read everything under a foreign name that leads here. MLflow's own patterns
    for private addresses allow that: `10.*` matches `10.example.com`.
    """
    names = {_name(host)}
    if _is_this_machine(host):
        names |= {"localhost", "127.0.0.1", "[::1]"}
    if host in _EVERY:
        names |= set(map(_name, _own_names()))
    # in a pattern a bracket stands in brackets
    patterns = {f"{name.replace('[', '[[]', 1)}:*" for name in names}
    return ",".join(sorted(names | patterns)).lower()


def _is_this_machine(host: str) -> bool:
    """Returns whether a host is a loopback address, or means every address."""
    try:
        return host in _EVERY or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_names() -> Iterator[str]:
    """Yields this machine's name, and its addresses as far as it knows them."""
    yield socket.gethostname()
    with suppress(OSError):
        yield from (str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None))
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, but finds the address that leads out
        yield probe.getsockname()[0]


def _environment(uri: str, host: str) -> dict[str, str]:
    """Returns the server's variables; the store is one, as everyone can read a command line."""
    ours = _QUIET | {"MLFLOW_SERVER_ALLOWED_HOSTS": _allowed_hosts(host)}
    return ours | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}


def _command(root: Root, host: str, port: int) -> list[str]:
    """Returns the command; artifacts are read where they lie, its destination is for uploads."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
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
