"""Trials that crash, run out of memory, diverge, or find their checkpoint damaged."""

import signal
from pathlib import Path
from typing import Any

import pytest
from studies import Command, Fault, Kill, Memory, assert_whole, cli, read, tiny, write

ADVANCE = "micronet_search.trial.trial:Trial.advance"
MOASHA = {"rule": "asha", "first_rung": 1, "reduction": 3}


def one(name: str, **changes: Any) -> dict[str, Any]:
    """A study of one trial, with checkpoints after epochs 1, 3, 4 and 5."""
    return tiny(name, search__trials=1, search__early_stopping=MOASHA, **changes)


def test_a_crash_is_tried_again_from_the_last_checkpoint(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", one("crash"))
    fault = Fault(ADVANCE, 3, RuntimeError("boom"))
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=fault).wait()
    assert done.code == 0, done
    assert "trial 0 crashed (RuntimeError: boom), tried again from its last checkpoint" in done.out
    left = read(runs, "crash")
    assert_whole(left, trials=1)
    assert left.outcomes[0].state == "complete"
    # the first try's traceback stays, and MLflow has it
    assert "boom" in (left.children[0].artifacts / "traceback.txt").read_text()
    undisturbed = write(tmp_path / "other.yaml", one("undisturbed"))
    assert cli("run", undisturbed, "--root", runs, cwd=tmp_path).code == 0
    assert read(runs, "undisturbed").outcomes[0].accuracy == left.outcomes[0].accuracy


def test_retries_are_counted_from_a_checkpoint(tmp_path: Path, runs: Path) -> None:
    """None left is a failed trial; with a checkpoint between them two crashes are one each."""
    for retries, state in ((0, "failed"), (1, "complete")):
        name = f"retries{retries}"
        sweep = write(tmp_path / "sweep.yaml", one(name, execution={"retries": retries}))
        fault = Fault(ADVANCE, 1, MemoryError("no more"))
        done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=fault).wait()
        assert done.code == 0, done
        assert done.out.count("tried again from the beginning") == retries
        left = read(runs, name)
        assert_whole(left, trials=1)
        assert left.outcomes[0].state == state
        assert "MemoryError" in (left.children[0].artifacts / "traceback.txt").read_text()


def test_a_divergence_is_not_tried_again(tmp_path: Path, runs: Path) -> None:
    rate = {"optimizer": "sgd", "learning_rate": 1e30, "epochs": 2}
    tree = one("diverging")
    tree["candidate"]["training"] |= rate
    done = cli("run", write(tmp_path / "sweep.yaml", tree), "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "tried again" not in done.out
    left = read(runs, "diverging")
    assert_whole(left, trials=1)
    assert left.outcomes[0].state == "failed"


def test_a_slot_out_of_memory(tmp_path: Path, runs: Path) -> None:
    """The allocator fails for real in one of two branches; the study goes on."""
    tree = tiny("memory", search__trials=4, search__seed=1)
    tree["candidate"]["network"]["stem"] = {"width": {"choices": [4, 4096]}}
    tree["candidate"]["training"]["batch_size"] = 200
    tree["objectives"]["score"]["at_most"] = 1000.0
    sweep = write(tmp_path / "sweep.yaml", tree)
    limit = Memory(400 * 2**20)
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=limit).wait()
    assert done.code == 0, done
    left = read(runs, "memory")
    assert_whole(left, trials=4)
    failed = {n: o for n, o in left.outcomes.items() if o.state == "failed"}
    assert 0 < len(failed) < 4
    for number, outcome in failed.items():
        assert "memory" in (outcome.reason or "")
        assert left.optuna[number].params["network.stem.width"] == 4096
        assert f"trial {number} crashed" in done.out
    assert max(left.outcomes) > min(failed)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_a_damaged_checkpoint_costs_the_work_that_it_held(
    tmp_path: Path, runs: Path, damage: str
) -> None:
    sweep = write(tmp_path / "sweep.yaml", one(damage))
    killed = Kill("micronet_search.study.driver:write_bytes", "after", 2)
    command = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=killed)
    assert command.wait().code == -signal.SIGKILL
    path = runs / f"studies/{damage}/trials/0000/checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    damaged = {"cut": content[:-7], "empty": b"", "other": b"{}" * 5000}.get(damage, content)
    path.write_bytes(damaged)
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "DamagedCheckpointError" in done.out
    assert "tried again from the beginning" in done.out
    left = read(runs, damage)
    assert_whole(left, trials=1)
    assert left.outcomes[0].state == "complete"


def test_checkpoints_of_stopped_trials_are_kept_as_long_as_the_sweep_says(
    tmp_path: Path, runs: Path
) -> None:
    early = {"rule": "asha", "first_rung": 1, "reduction": 2, "keep_hours": 0}
    sweep = write(
        tmp_path / "sweep.yaml", tiny("kept", search__trials=6, search__early_stopping=early)
    )
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    left = read(runs, "kept")
    assert_whole(left, trials=6)
    assert "stopped" in {outcome.state for outcome in left.outcomes.values()}
    assert not list(runs.glob("studies/kept/trials/*/checkpoint.safetensors"))


def test_a_trial_that_always_crashes_after_a_rung_fails(tmp_path: Path, runs: Path) -> None:
    """A resumed trial reports the rung that it starts from; that is no further checkpoint."""
    sweep = write(tmp_path / "sweep.yaml", one("always"))
    fault = Fault(ADVANCE, 2, RuntimeError("boom"), lasts=True)
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=fault).wait()
    assert done.code == 0, done
    assert done.out.count("tried again from its last checkpoint") == 1
    left = read(runs, "always")
    assert_whole(left, trials=1)
    assert left.outcomes[0].state == "failed"
