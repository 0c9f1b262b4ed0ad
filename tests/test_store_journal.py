import json
import os
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)

from micronet_search.store.journal import cut_to_last_whole_line

WHOLE = b'{"op_code":0,"study_name":"a"}\n{"op_code":4,"trial_id":0}\n'
LAST = b'{"op_code":6,"trial_id":0,"state":1}\n'


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


@pytest.mark.parametrize("before", [b"", WHOLE])
def test_a_last_line_cut_anywhere_goes(journal: Path, before: bytes) -> None:
    for size in range(len(LAST)):
        journal.write_bytes(before + LAST[:size])
        assert cut_to_last_whole_line(journal) == size
        assert journal.read_bytes() == before


@pytest.mark.parametrize("content", [b"", WHOLE, WHOLE + LAST])
def test_a_whole_journal_is_not_touched(journal: Path, content: bytes) -> None:
    journal.write_bytes(content)
    os.utime(journal, ns=(1, 1))

    assert cut_to_last_whole_line(journal) == 0
    assert journal.read_bytes() == content
    assert journal.stat().st_mtime_ns == 1


@pytest.mark.parametrize(
    "damage",
    [b"\n", b"{\n", b"\xff\xff\n", b"\0\0\0\n", LAST[:9] + LAST, LAST[:9] + b"\n" + LAST[:5]],
)
def test_a_damaged_last_line_goes(journal: Path, damage: bytes) -> None:
    journal.write_bytes(WHOLE + damage)

    assert cut_to_last_whole_line(journal) == len(damage)
    assert journal.read_bytes() == WHOLE


def test_a_missing_journal_stays_missing(journal: Path, tmp_path: Path) -> None:
    assert cut_to_last_whole_line(journal) == 0
    assert cut_to_last_whole_line(tmp_path / "nowhere" / "optuna.journal") == 0
    assert not journal.exists()


@pytest.mark.parametrize("kind", [JournalFileSymlinkLock, JournalFileOpenLock])
def test_optuna_goes_on_after_a_crash(
    journal: Path,
    kind: type[JournalFileSymlinkLock | JournalFileOpenLock],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(journal.parent)  # a relative path makes the symbolic link dangle
    path = journal.name

    def open_study() -> optuna.Study:
        storage = optuna.storages.JournalStorage(JournalFileBackend(path, kind(path)))
        return optuna.create_study(storage=storage, study_name="a", load_if_exists=True)

    open_study().ask()
    assert kind(path).acquire()  # by a process that dies
    with open(journal, "ab") as file:
        file.write(json.dumps({"op_code": 4, "study_id": 0}).encode()[:-3])
    (journal.parent / f"{path}.lock1234.rename").touch()
    (journal.parent / "driver.lock").touch()

    cut_to_last_whole_line(journal)

    def wait(_: float) -> None:
        raise AssertionError("Optuna waits for a process that is dead")

    with monkeypatch.context() as patch:
        patch.setattr("optuna.storages.journal._file.time.sleep", wait)
        study = open_study()
        study.ask()
        assert len(study.trials) == 2
    assert sorted(os.listdir(journal.parent)) == ["driver.lock", path]
