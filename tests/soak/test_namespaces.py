"""A Ray cluster whose nodes are hosts of their own: network namespaces, each with its folders."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import studies
from PIL import Image
from studies import assert_whole, read, tiny, write

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

NETWORK = "10.213.0"
QUIET = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
}


class Host:
    """A network namespace, and a folder under which its programs see /data as theirs."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"micronet{number}"
        self.address = f"{NETWORK}.{number}"
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self._started: list[subprocess.Popen[bytes]] = []

    def command(self, program: list[object], data: Path) -> list[str]:
        """The program in this host, where `data` shows what this host has of it."""
        inside = 'mount --bind "$0" "$1" && shift && exec "$@"'
        words = ["ip", "netns", "exec", self.name, "unshare", "-m", "sh", "-c", inside]
        return [*words, str(self.data), str(data), *map(str, program)]

    def start(self, program: list[object], data: Path) -> None:
        command = self.command(program, data)
        log = (self.folder / "log").open("ab")
        self._started.append(
            subprocess.Popen(
                command, cwd=self.folder, env=os.environ | QUIET, stdout=log, stderr=log
            )
        )

    def end(self) -> None:
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, check=True)
        for pid in found.stdout.split():
            subprocess.run(["kill", "-9", pid], check=False)
        for process in self._started:
            process.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    if os.getuid() or not all(map(shutil.which, ("ip", "unshare"))):
        pytest.skip("needs root and iproute2")
    folder = tmp_path_factory.mktemp("hosts")
    made = Host(1, folder / "1"), Host(2, folder / "2")
    for host in made:
        subprocess.run(["ip", "netns", "add", host.name], check=True)
    pair = "ip link add m1 netns micronet1 type veth peer name m2 netns micronet2"
    subprocess.run(pair.split(), check=True)
    for i, host in enumerate(made, 1):
        for words in (
            f"addr add {host.address}/24 dev m{i}",
            f"link set m{i} up",
            "link set lo up",
        ):
            subprocess.run(["ip", "-n", host.name, *words.split()], check=True)
    yield made
    for host in made:
        host.end()


def fill(folder: Path) -> None:
    """The digits as class folders."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for row, (image, label) in enumerate(zip(digits.images[:400], digits.target, strict=False)):
        place = folder / ("test" if row % 4 == 0 else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype("uint8")).save(place / f"{row}.png")


def test_nodes_in_other_network_namespaces(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """The second host joins without the dataset, which is told, and once more with it."""
    first, second = hosts
    data = tmp_path / "dataset"
    data.mkdir()
    fill(first.data)
    ray = Path(sys.executable).with_name("ray")
    address = f"{first.address}:6379"
    node = ["--num-cpus=1", "--disable-usage-stats", "--block"]
    head = ["--head", f"--node-ip-address={first.address}", "--port=6379"]
    # sockets lie under it, and their paths are short by law
    temporary = f"--temp-dir=/tmp/m{os.getpid()}"
    first.start([ray, "start", *head, "--include-dashboard=false", f"{temporary}a", *node], data)
    join = [ray, "start", f"--address={address}", f"--node-ip-address={second.address}"]
    time.sleep(10)
    second.start([*join, f"{temporary}b", *node], data)

    tree = tiny(
        "hosts",
        dataset={"name": "folder", "root": "../dataset", "validation": 0.25},
        search__trials=40,
        candidate__training__epochs=20,
        execution={"engine": "ray", "address": address},
    )
    work = tmp_path / "work"
    work.mkdir()
    sweep = write(work / "sweep.yaml", tree)
    root = tmp_path / "runs"
    program = [sys.executable, "-m", "micronet_search", "run", sweep, "--root", root]
    with (tmp_path / "out").open("wb") as out:
        driver = subprocess.Popen(
            first.command(program, data), cwd=work, env=os.environ | QUIET, stdout=out, stderr=out
        )

    def said(words: str) -> bool:
        end = time.monotonic() + 120
        while words not in (tmp_path / "out").read_text():
            assert driver.poll() is None, (tmp_path / "out").read_text()
            assert time.monotonic() < end, (tmp_path / "out").read_text()
            time.sleep(0.2)
        return True

    assert said(f"node {second.address}: ")
    assert said("no folder train in")
    assert said(f"node {first.address} is ready")

    # as by a new mount: the same host joins again, as another node
    found = subprocess.run(["ip", "netns", "pids", second.name], capture_output=True, check=True)
    for pid in found.stdout.split():
        subprocess.run(["kill", "-9", pid], check=False)
    shutil.copytree(first.data, second.data, dirs_exist_ok=True)
    second.start([*join, f"{temporary}c", *node], data)
    assert said(f"node {second.address} is ready")
    assert driver.wait(300) == 0, (tmp_path / "out").read_text()
    left = read(root, "hosts")
    assert_whole(left, trials=40)
    assert studies.outcomes(root, "hosts").keys() == left.outcomes.keys()
