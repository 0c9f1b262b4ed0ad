"""The conversation of a trial with whoever runs it, and the engines."""

from __future__ import annotations

import functools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import studies
import torch

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset, Execution
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.engine.choice import choose_device
from micronet_search.engine.slot import Inline, Slot
from micronet_search.engine.work import (
    Crashed,
    Ended,
    Engine,
    Event,
    Job,
    Left,
    Order,
    Reached,
    Stop,
    Trained,
    work,
)
from micronet_search.scoring.rules import scores
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Result
from micronet_search.trial.trial import Trial

CPU = torch.device("cpu")


DIGITS = Dataset(name="digits", validation=100, limit=400)


@functools.cache
def digits() -> Splits:
    return splits.load(DIGITS)


def candidate(**training: Any) -> Candidate:
    return Candidate.model_validate(
        {
            "input": digits().input.model_dump(),
            "network": {
                "family": "densenet",
                "stem": {"width": 4},
                "growth_rate": 4,
                "layers": [1],
                "bottleneck": 0,
            },
            "training": {"epochs": 3, "batch_size": 50, "learning_rate": 0.01} | training,
            "pruning": {"sparsity": 0.5, "epochs": 1},
        }
    )


def job(checkpoint: bytes | None = None, stops: tuple[int, ...] = (1,), **training: Any) -> Job:
    return Job(7, candidate(**training), seed=3, stops=stops, checkpoint=checkpoint)


def events(asked: Job, orders: dict[int, Order] | None = None) -> list[Event]:
    """All that a trial says; the order after event i is `orders[i]`, else "go"."""
    conversation = work(asked, digits(), CPU, lambda: False)
    found = [next(conversation)]
    while not isinstance(found[-1], Ended | Crashed):
        found.append(conversation.send((orders or {}).get(len(found) - 1, "go")))
    return found


def ended(found: list[Event]) -> Result:
    last = found[-1]
    assert isinstance(last, Ended | Crashed)
    return last.result


def kinds(found: list[Event]) -> list[str]:
    return [type(event).__name__ for event in found]


def test_a_trial_reports_epochs_rungs_and_ends_of_stages() -> None:
    found = events(job())
    assert kinds(found) == [
        "Trained",
        "Reached",
        "Trained",
        "Trained",
        "Reached",
        "Trained",
        "Reached",
        "Ended",
    ]
    assert [e.row.epoch for e in found if isinstance(e, Reached)] == [1, 3, 4]
    assert all(e.epochs == 4 for e in found if isinstance(e, Trained))
    assert ended(found).outcome.state == "complete"


def test_stop_ends_it_with_the_predicted_score() -> None:
    found = events(job(), {1: Stop("rank 3 of 3")})
    outcome = ended(found).outcome
    assert (outcome.state, outcome.reason) == ("stopped", "rank 3 of 3")
    assert len(outcome.curve) == 1
    predicted = scores(build.predict(candidate()))
    assert outcome.scores == {name: score.to_json() for name, score in predicted.items()}


def test_paused_anywhere_and_resumed_it_ends_the_same() -> None:
    pausing: list[bool] = []
    paused = work(job(), digits(), CPU, lambda: bool(pausing))
    next(paused)
    paused.send(None)
    paused.send("go")
    pausing.append(True)
    reached = next(paused)
    assert isinstance(reached, Reached)
    assert reached.row.epoch == 2
    paused.close()
    resumed = ended(events(job(reached.checkpoint)))
    whole = ended(events(job()))
    ours, theirs = (checkpoint.unpack(r.files["model.safetensors"])[0] for r in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.outcome.accuracy == whole.outcome.accuracy


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_diverging_trial_has_failed(optimizer: str) -> None:
    found = events(job(optimizer=optimizer, learning_rate=1e30))
    result = ended(found)
    assert result.outcome.state == "failed"
    assert result.outcome.reason is not None
    assert result.outcome.reason.startswith("DivergenceError: the training loss became")
    assert b"Traceback" in result.files["traceback.txt"]


def test_weights_beyond_half_precision_have_failed() -> None:
    asked = candidate(learning_rate=1e6).model_dump(mode="json")
    asked["quantization"] = {"weight_bits": 16, "activation_bits": 16}
    outcome = ended(events(Job(7, Candidate.model_validate(asked), 3, ()))).outcome
    assert outcome.state == "failed"
    assert outcome.reason is not None
    assert "is not finite" in outcome.reason


@pytest.mark.parametrize("place", [0.0, 0.3, 0.99], ids=["header", "middle", "end"])
def test_a_damaged_checkpoint_is_a_clear_reason(place: float) -> None:
    reached = events(job())[1]
    assert isinstance(reached, Reached)
    content = bytearray(reached.checkpoint)
    content[int(place * len(content))] ^= 0xFF
    found = events(job(bytes(content)))
    assert kinds(found) == ["Crashed"]
    assert isinstance(found[-1], Crashed)
    assert found[-1].damaged
    outcome = ended(found).outcome
    assert outcome.state == "failed"
    assert outcome.reason is not None
    assert outcome.reason.startswith("DamagedCheckpointError: the checkpoint is damaged")


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": None},
        {"epoch": 3},
        {"epoch": -1},
        {"entered": 99},
        {"entered": 0},
        {"curve": [{"epoch": 1}]},
        {"curve": []},
        {"seconds": [1.0]},
        {"started": "now"},
        {"network": {}},
        {"network": {"stem.weight": torch.ones(3)}},
        {"network": None},
        {"fit": None},
        {"fit": {}},
        {"fit": {"optimizer": {}, "schedule": {}, "average": None}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_whole_checkpoint_of_something_else_counts_as_damaged(change: dict[str, Any]) -> None:
    reached = events(job())[1]
    assert isinstance(reached, Reached)
    state = checkpoint.unflatten(*checkpoint.unpack(reached.checkpoint)) | change
    found = events(job(checkpoint.pack(*checkpoint.flatten(state))))
    assert kinds(found) == ["Crashed"]
    assert isinstance(found[-1], Crashed)
    assert found[-1].damaged
    reason = ended(found).outcome.reason
    assert reason is not None
    assert reason.startswith("DamagedCheckpointError: the checkpoint is damaged, or not one of")


def test_the_inline_engine_runs_one_job_at_a_time() -> None:
    engine = Inline(Slot(digits(), CPU, threads=1))
    for number in (7, 7):
        engine.start(job())
        found: list[Event] = []
        while not found or not isinstance(found[-1], Ended):
            heard = engine.wait()
            assert heard is not None
            assert heard[0] == number
            found.append(heard[1])
            if isinstance(found[-1], Reached):
                engine.order(number, "go")
        engine.release(number)
        assert ended(found).outcome.state == "complete"
    engine.close()


def test_a_paused_slot_reports_a_checkpoint_after_its_epoch() -> None:
    engine = Inline(Slot(digits(), CPU, threads=1))
    engine.start(job(stops=()))
    assert isinstance((engine.wait() or (0, None))[1], Trained)
    engine.pause()
    assert isinstance((engine.wait() or (0, None))[1], Reached)
    engine.release(7)


def slow_to_clear(member: type) -> type:
    """A slot that takes a moment to forget a job, and notices a job that comes meanwhile."""

    class Member(member):
        clearing = False

        def begin(self, job: Job) -> Iterator[Event]:
            assert not self.clearing
            yield from super().begin(job)

        def clear(self) -> None:
            self.clearing = True
            time.sleep(0.5)
            super().clear()
            self.clearing = False

    return Member


def hear(engine: Engine, *kinds: type) -> Event:
    """Waits for an event of a kind; a trial that reports a checkpoint before goes on."""
    end = time.monotonic() + studies.PATIENCE
    while time.monotonic() < end:
        heard = engine.wait()
        if heard is not None and isinstance(heard[1], kinds):
            return heard[1]
        if heard is not None and isinstance(heard[1], Reached):
            engine.order(heard[0], "go")
        else:
            assert heard is None or isinstance(heard[1], Trained), heard
    raise TimeoutError


def until(condition: Callable[[], bool], engine: Engine | None = None) -> None:
    """Waits until something is so, of an engine's slots while no trial has anything to say."""
    end = time.monotonic() + studies.PATIENCE
    while not condition():
        assert time.monotonic() < end
        if engine is None:
            time.sleep(0.1)
        else:
            assert engine.wait() is None


def test_slots_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot has one conversation at a time, may wait for its processor, and may be lost."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from micronet_search.engine.ray import cluster as ray_cluster
    from micronet_search.engine.ray import engine as ray_engine

    monkeypatch.setattr(ray_cluster, "Member", slow_to_clear(ray_cluster.Member))
    monkeypatch.setattr(ray_engine, "SLOW", 0.5)
    monkeypatch.chdir(tmp_path)
    cluster = Cluster(True, head_node_args=studies.HEAD)
    first = cluster.add_node(num_cpus=1)
    told: list[str] = []
    engine = ray_engine.Ray(DIGITS, Execution(address=cluster.address), told.append)
    endless = job(stops=(), epochs=10**6)
    try:
        until(lambda: engine.slots == 1, engine)
        engine.start(job())
        hear(engine, Reached)
        engine.release(7)
        # the slot is still forgetting the last job
        engine.start(endless)
        hear(engine, Trained)
        engine.pause()
        hear(engine, Reached)
        engine.order(7, "go")

        os.kill(*studies.processes(os.getpid())["slot"], signal.SIGKILL)
        crashed = hear(engine, Crashed, Left)
        assert isinstance(crashed, Crashed)
        engine.release(7)
        until(lambda: engine.slots == 1, engine)

        # somebody else has the processor of a node that joins
        second = cluster.add_node(num_cpus=1)
        on = NodeAffinitySchedulingStrategy(second.node_id, soft=False)
        other = ray.remote(num_cpus=1, scheduling_strategy=on)(type("Other", (), {})).remote()
        ray.get(other.__ray_ready__.remote(), timeout=studies.PATIENCE)
        waits = f"node {second.node_ip_address}: a slot waits for 1 CPU"
        until(lambda: any(line.startswith(waits) for line in told), engine)

        # a slot dies a moment before its node
        engine.start(endless)
        hear(engine, Trained)
        os.kill(*studies.processes(os.getpid())["slot"], signal.SIGKILL)
        until(lambda: ray.available_resources().get("CPU") == 1)
        cluster.remove_node(first, allow_graceful=False)
        assert isinstance(hear(engine, Crashed, Left), Left)
        engine.release(7)

        ray.kill(other)
        until(lambda: engine.slots == 1, engine)
        engine.start(job())
        assert isinstance(hear(engine, Ended, Crashed), Ended)
    finally:
        engine.close()
        cluster.shutdown()


@pytest.mark.parametrize(
    ("execution", "error", "expected"),
    [
        (
            {},
            Exception("The current node timed out during startup.\nMore about it."),
            "execution.engine: Ray did not start on this machine (The current node timed out during"
            " startup.)",
        ),
        ({}, RuntimeError(""), "Ray did not start on this machine (RuntimeError)"),
        (
            {"address": "ray-cluster"},
            ConnectionError("no answer"),
            "execution.address: found no Ray cluster at ray-cluster (no answer)",
        ),
    ],
    ids=["busy machine", "no message", "address"],
)
def test_a_start_of_ray_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    execution: dict[str, Any],
    error: Exception,
    expected: str,
) -> None:
    ray = pytest.importorskip("ray")
    from micronet_search.engine.ray.engine import Ray

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ValueError, match=re.escape(expected)) as found:
        Ray(DIGITS, Execution.model_validate(execution), print)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("asked", "processors", "slots"),
    [("auto", 2, 2), ("auto", 0.5, 1), ("auto", 2.9, 2), ("auto", 64, 8), (3, 2, 3), (1, 64, 1)],
)
def test_slots_of_a_device(asked: int | str, processors: float, slots: int) -> None:
    execution = Execution.model_validate({"trials_per_device": asked})
    assert execution.slots_of_device(processors) == slots


@pytest.mark.parametrize("asked", [0, 257, 2.0, True, "all"])
def test_a_wrong_number_of_slots_is_refused(asked: Any) -> None:
    with pytest.raises(ValueError, match="expected auto, or a whole number, 1 to 256"):
        Execution.model_validate({"trials_per_device": asked})


def test_devices_by_name() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="found no device cuda:99, expected one of cpu"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(29.0, []), (100.0, [3]), (120.0, [2, 4]), (301.0, [1, 2, 3, 4])],
)
def test_checkpoints_have_a_cadence(
    monkeypatch: pytest.MonkeyPatch, seconds: float, expected: list[int]
) -> None:
    """Another epoch like the last never goes beyond the five minutes; one alone may."""
    train, now = Trial.advance, [0.0]

    def advance(trial: Trial, to_epoch: int) -> None:
        train(trial, to_epoch)
        trial.history.curve[-1] = replace(trial.history.curve[-1], seconds=seconds)
        now[0] += seconds

    monkeypatch.setattr(Trial, "advance", advance)
    monkeypatch.setattr("micronet_search.engine.work.time.monotonic", lambda: now[0])
    found = events(replace(job(stops=(), epochs=5), checkpoint_minutes=5.0))
    reached = [event.row.epoch for event in found if isinstance(event, Reached)]
    assert [epoch for epoch in reached if epoch < 5] == expected
