import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from micronet_search.store.owner import StudyLockedError, driver_lock
from micronet_search.store.paths import Root, StudyFolder

DRIVER = """
import sys, time
from pathlib import Path
from micronet_search.store.owner import driver_lock
from micronet_search.store.paths import Root

with driver_lock(Root(Path(sys.argv[1])).study("a")):
    print("locked", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return Root(tmp_path).study("a")


def test_a_dead_driver_is_followed_by_another(tmp_path: Path, study: StudyFolder) -> None:
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "locked\n"
        expected = re.escape(f"run by process {driver.pid} on {socket.gethostname()} since ")
        for _ in range(2):  # the refusal itself disturbs nothing
            with pytest.raises(StudyLockedError, match=expected) as error, driver_lock(study):
                pass
            assert "\n" not in str(error.value)
        driver.send_signal(signal.SIGKILL)
        driver.wait()

    assert study.holder.exists()
    with driver_lock(study):
        assert f'"pid": {os.getpid()}' in study.holder.read_text()


def test_the_lock_is_free_after_its_context(study: StudyFolder) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), driver_lock(study):
            raise KeyError
        assert not study.holder.exists()


@pytest.mark.parametrize("content", [None, "", "[]", '{"pid": 1}', '{"started": 1e300}'])
def test_a_holder_that_cannot_be_read_is_another_process(
    study: StudyFolder, content: str | None
) -> None:
    with driver_lock(study):
        study.holder.unlink()
        if content is not None:
            study.holder.write_text(content)
        with pytest.raises(StudyLockedError, match="by another process"), driver_lock(study):
            pass
