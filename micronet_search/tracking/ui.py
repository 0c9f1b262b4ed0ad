"""MLflow's own pages, on every study under a root."""

import ipaddress
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import suppress

from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking.client import is_server, masked, quieten, tracking_uri
from micronet_search.tracking.database import database_file, follow
from micronet_search.tracking.views import FIRST

# MLflow's job runner is for language models, and starts several processes.
_QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
_PATIENCE = 10.0  # seconds that the server has to end by itself
# Runs the command that follows, and kills its process group when standard input closes: when the
# process that holds the other end is gone, even if it was killed.
_TOGETHER = 'exec 3<&0; { read -r _ <&3; kill -KILL 0; } & exec "$@" 3<&- </dev/null'
_EVERY = ("0.0.0.0", "::")


def serve(root: Root, tracking: Tracking, host: str, port: int, studies: Sequence[str] = ()) -> int:
    """Runs MLflow's server until Ctrl-C, and returns its exit status; 0 after Ctrl-C.

    Once it answers, the page of each of these studies is printed. Requests have to name the host on
    which it listens, or this machine where that is a loopback address or means every address.
    `MLFLOW_SERVER_ALLOWED_HOSTS` overrides this. A store that is missing, a server or damaged, and
    a port that is taken, are ValueErrors.
    """
    uri = tracking_uri(tracking, root)
    _check_store(uri)
    _check_port(host, port)
    quieten()
    ours = _QUIET | {"MLFLOW_SERVER_ALLOWED_HOSTS": _allowed_hosts(host)}
    server = subprocess.Popen(
        ["sh", "-c", _TOGETHER, "sh", *_command(root, host, port)],
        stdin=subprocess.PIPE,
        # everyone can read a command line, and the store's address may hold a password
        env=ours | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri},
        # of two Ctrl-C the server's processes would print a traceback
        start_new_session=True,
    )
    also = (signal.SIGTERM, signal.SIGHUP)  # these do what Ctrl-C does
    before = {one: signal.signal(one, signal.default_int_handler) for one in also}
    try:
        _announce(f"http://{_name(host)}:{port}", server, studies)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(server.pid, number)
            with suppress(subprocess.TimeoutExpired):
                server.wait(_PATIENCE)


def _announce(address: str, server: subprocess.Popen[bytes], studies: Sequence[str]) -> None:
    """Prints where the studies are, once the server answers; without any, where it is."""
    while server.poll() is None and _answer(f"{address}/health") is None:
        time.sleep(0.1)
    found = {name: page for name in studies if (page := _page(address, name))}
    places = [f"{name}: {page}" for name, page in found.items()]
    # MLflow opens its pages for language models first, unless it is told
    places = places or [f"MLflow: {address}/#/experiments?workflowType=machine_learning"]
    if server.poll() is None:
        print(*places, "Ctrl-C ends it", sep="\n", flush=True)


def _page(address: str, study: str) -> str | None:
    """Returns the page of a study; None where MLflow does not know it."""
    query = urllib.parse.urlencode({"experiment_name": study})
    answer = _answer(f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}")
    if answer is None:
        return None
    number = json.loads(answer)["experiment"]["experiment_id"]
    options = f"workflowType=machine_learning&viewStateShareKey={FIRST}"
    return f"{address}/#/experiments/{number}/runs?{options}"


def _answer(address: str) -> bytes | None:
    try:
        # past the proxies that the environment may name
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=5) as answer:
            found: bytes = answer.read()
    except OSError:
        return None
    return found


def _command(root: Root, host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        # for uploads; other artifacts are read where they lie
        *("--artifacts-destination", root.artifacts.absolute().as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--uvicorn-opts", "--no-access-log"),
    ]


def _check_store(uri: str) -> None:
    if is_server(uri):
        server = masked(uri)
        raise ValueError(f"the records are kept by the server {server}, open that in a browser")
    path = database_file(uri)
    if path and not path.exists():
        raise ValueError(f"{path} does not exist, expected the records of a study")
    if path and path.stat().st_size:
        try:
            follow(path)
        except sqlite3.Error as error:
            raise ValueError(f"{path}: {error}, expected MLflow's database") from None


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
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
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    names = {_name(host)}
    if is_loopback or host in _EVERY:
        names |= {"localhost", "127.0.0.1", "[::1]"}
    if host in _EVERY:
        own = socket.gethostname()
        names.add(own)
        with suppress(OSError):
            names |= {_name(str(found[4][0])) for found in socket.getaddrinfo(own, None)}
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but finds the address that leads out
            names.add(probe.getsockname()[0])
    # in a pattern a bracket stands in brackets
    patterns = {f"{name.replace('[', '[[]', 1)}:*" for name in names}
    return ",".join(sorted(names | patterns)).lower()
