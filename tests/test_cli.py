"""The commands as a shell sees them: what they print, their exit codes, and one line for errors."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import studies
import typer
import yaml
from PIL import Image
from studies import Command, Done, Kill, cli, tiny, write

from micronet_search.cli.common import INTERRUPTED, interruptible, is_interrupt

COMMANDS = ["check", "run", "status", "front", "score", "export", "ui"]
PARTS = ["parameters", "operations", "score"]
HEAVY = ["torch", "optuna", "mlflow", "numpy", "yaml"]


# --- help ---


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_answers_at_once(arguments: list[str]) -> None:
    code = (
        "import sys, time; from micronet_search.cli import main\n"
        "try: main()\n"
        f"finally: print({set(HEAVY)} & sys.modules.keys(), time.process_time(), sep='\\n')"
    )
    command = [sys.executable, "-c", code, *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    *text, found, seconds = done.stdout.splitlines()
    assert found == "set()"
    assert float(seconds) < 3  # 0.2 s where nothing else runs
    assert "Usage: " in "\n".join(text)


def test_the_help_says_what_ctrl_c_does(tmp_path: Path) -> None:
    text = " ".join(cli("run", "--help", cwd=tmp_path).out.split())
    assert "Ctrl-C pauses the study after the epoch" in text
    assert "the exit code is 130" in text


def test_a_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Without the tests' server of processes."""
    command = [sys.executable, "-m", "micronet_search", "status", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert Done(done.returncode, done.stdout, done.stderr).error.startswith("no study under")


# --- what the commands print ---


@pytest.fixture
def folder(finished: Path) -> Path:
    return finished.parent


def test_check(folder: Path) -> None:
    done = cli("check", "tiny.yaml", cwd=folder)
    assert done.code == 0
    assert "tiny.yaml is valid" in done.out
    assert "of 100 draws 0 would be screened" in done.out


def test_score(folder: Path, finished: Path) -> None:
    outcome = studies.outcomes(finished, "tiny")[0]
    candidate = finished / "studies/tiny/trials/0000/candidate.yaml"
    done = cli("score", candidate, "--format", "json", cwd=folder)
    found = json.loads(done.out)
    totals = ["parameters", "nonzeros", "macs", "storage_bits"]
    assert list(found) == ["kind", *totals, "scores", "layers", "uncounted", "notes"]
    assert (found["kind"], found["uncounted"], found["notes"]) == ("predicted", {}, [])
    assert found["parameters"] == outcome.parameters
    assert found["macs"] == outcome.macs
    # predicted: the measured one has more zeros, those that weights are rounded to
    assert found["nonzeros"] >= outcome.nonzeros
    assert found["scores"]["imt"]["score"] >= outcome.scores["imt"]["score"]
    for rule in ("imt", "micronet2019"):
        parts = found["scores"][rule]
        assert parts.keys() == {"parameters", "operations", "score"}
        assert parts["score"] == pytest.approx(parts["parameters"] + parts["operations"])
    columns = ["name", "kind", "weights", "nonzeros", "weight_bits", "activation_bits", "macs"]
    assert all(list(layer) == columns for layer in found["layers"])
    assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]
    assert all(isinstance(found[name], int) for name in totals)

    table = cli("score", candidate, cwd=folder).out
    assert f"predicted: {found['parameters']:,} parameters" in table
    assert f"{found['scores']['imt']['score']:.6f}" in table


def test_front(folder: Path, finished: Path) -> None:
    outcomes = studies.outcomes(finished, "tiny")
    rows = json.loads(cli("front", "tiny", "--format", "json", "--root", finished, cwd=folder).out)
    assert rows
    columns = ["trial", "accuracy", "score", "scores", "parameters", "nonzeros", "macs"]
    for row in rows:
        assert list(row) == [*columns, "candidate"]
        outcome = outcomes[row["trial"]]
        assert row["score"] == outcome.scores["imt"]["score"]
        for name in ("accuracy", "scores", "parameters", "nonzeros", "macs"):
            assert row[name] == getattr(outcome, name)
        path = finished / f"studies/tiny/trials/{row['trial']:04d}/candidate.yaml"
        assert row["candidate"] == yaml.safe_load(path.read_text())
    assert rows == sorted(rows, key=lambda row: row["score"])
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(set(accuracies))

    text = cli("front", "tiny", "--format", "csv", "--root", finished, cwd=folder).out
    table = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in rows]
    frozen = studies.optuna_trials(finished, "tiny")
    for row in table:
        figures = ["trial", "accuracy", "score"]
        figures += [f"scores.{r}.{p}" for r in ("imt", "micronet2019") for p in PARTS]
        figures += ["parameters", "nonzeros", "macs"]
        params = frozen[int(row["trial"])].params
        assert list(row) == [*figures, *params]
        assert {path: row[path] for path in params} == {p: str(v) for p, v in params.items()}
        assert not any("{" in cell for cell in row.values())
    assert [float(row["score"]) for row in table] == [row["score"] for row in rows]

    people = cli("front", "tiny", "--root", finished, cwd=folder).out
    assert f"{rows[0]['score']:.6f}" in people


def test_status(folder: Path, finished: Path) -> None:
    every = cli("status", "--root", finished, cwd=folder).out
    assert "tiny" in every
    assert "3/3" in every
    one = cli("status", "tiny", "--root", finished, cwd=folder).out
    for number, outcome in studies.outcomes(finished, "tiny").items():
        (line,) = [line for line in one.splitlines() if line.startswith(f"{number} ")]
        assert "complete" in line
        assert f"{outcome.accuracy:.4f}" in line
        assert f"{outcome.scores['imt']['score']:.6f}" in line


def test_a_start_says_what_it_does(tmp_path: Path, finished: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "runs")
    done = cli("run", finished.parent / "tiny.yaml", "--root", root, cwd=tmp_path)
    assert done.code == 0, done
    lines = [line.partition("] ")[2] for line in done.out.splitlines() if line.startswith("[")]
    assert lines == [
        "checking the sweep",
        "loading the dataset",
        "engine inline: one slot on cpu",
        "opening Optuna's and MLflow's records",
        "reading trials: 3 so far",
        "starting",
    ]


def test_export(folder: Path, finished: Path, tmp_path: Path) -> None:
    rows = json.loads(cli("front", "tiny", "--format", "json", "--root", finished, cwd=folder).out)
    best = cli("export", "tiny", "--best", "--root", finished, cwd=tmp_path)
    assert best.code == 0, best
    exported = tmp_path / f"exports/tiny/{rows[0]['trial']:04d}"
    names = {path.name for path in exported.iterdir()}
    models = {"model.onnx", "model.pt2", "model.mnz", "model.safetensors"}
    assert names == models | {"mnz.py", "candidate.yaml", "sweep.yaml", "README.md", "cost.png"}
    kinds = {"candidate.yaml": "predicted", "model.onnx": "measured", "model.mnz": "measured"}
    for file, kind in kinds.items():
        score = json.loads(cli("score", exported / file, "--format", "json", cwd=folder).out)
        assert (score["kind"], score["macs"]) == (kind, rows[0]["macs"])
    assert score["scores"] == rows[0]["scores"]
    front = cli("export", "tiny", "--front", "--to", "all", "--root", finished, cwd=tmp_path)
    assert front.code == 0, front
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        f"{row['trial']:04d}" for row in rows
    }


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "expected one of --best, --trial N and --front"),
        (["--best", "--front"], "expected one of --best, --trial N and --front"),
        (["--trial", "7"], "0007"),
    ],
    ids=["none", "two", "no such trial"],
)
def test_export_refuses(finished: Path, tmp_path: Path, arguments: list[str], error: str) -> None:
    done = cli("export", "tiny", *arguments, "--root", finished, cwd=tmp_path)
    assert error in done.error
    assert not (tmp_path / "exports").exists()


# --- bad input ---

CANDIDATE = "candidate__training__"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"objectives__acuracy": 1}, "acuracy"),
    "low above high": ({CANDIDATE + "learning_rate": {"low": 2, "high": 1}}, "learning_rate"),
    "0 bits": ({"candidate__quantization__weight_bits": 0}, "weight_bits"),
    "9 bits": ({"candidate__quantization__weight_bits": 9}, "weight_bits"),
    "33 bits": ({"candidate__quantization__weight_bits": 33}, "weight_bits"),
    "no folder": ({"dataset": {"name": "folder", "root": "nowhere"}}, "nowhere is no folder"),
    "no store": ({"tracking": {"mlflow": "sqlite:////nowhere/a.db"}}, "sqlite:////nowhere/a.db"),
    "no database": ({"tracking": {"optuna": "sqlite:////nowhere/a.db"}}, "tracking.optuna"),
    "no scheme": ({"tracking": {"optuna": "nonsense"}}, "tracking.optuna"),
    "no dialect": ({"tracking": {"optuna": "oracle9://x"}}, "tracking.optuna"),
    "no device": ({"execution": {"device": "cuda:99"}}, "no device cuda:99"),
    "no known candidate": ({"search__start_with": ["nothing.yaml"]}, "nothing.yaml"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sweep_is_one_line(tmp_path: Path, runs: Path, case: str) -> None:
    changes, expected = BAD[case]
    sweep = write(tmp_path / "sweep.yaml", tiny("bad", **changes))
    before = studies.snapshot(runs)
    found = cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert expected in found
    assert not list((runs / "studies").glob("*"))
    assert studies.snapshot(runs) == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "sweep.yaml"),
        ("", "sweep.yaml"),
        ("a: [1,\nb: 2", "sweep.yaml:2"),
        ("- 1\n- 2\n", "sweep.yaml"),
        ("a: \x00", "sweep.yaml"),
    ],
    ids=["missing", "empty", "syntax", "no mapping", "binary"],
)
@pytest.mark.parametrize("command", ["run", "check", "score"])
def test_a_file_that_is_none(
    tmp_path: Path, command: str, content: str | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / "sweep.yaml").write_text(content)
    assert expected in cli(command, "sweep.yaml", cwd=tmp_path).error
    assert not (tmp_path / "mlruns").exists()


def test_several_problems_are_several_lines(tmp_path: Path) -> None:
    tree = tiny("Bad name!", search__trials=0, candidate__quantization__weight_bits=9)
    done = cli("check", write(tmp_path / "sweep.yaml", tree), cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("error: ")
    for key in ("name", "search.trials", "candidate.quantization.weight_bits"):
        assert f" {key}: " in done.err


@pytest.mark.parametrize("command", [["status"], ["front"], ["export", "--best"]], ids=" ".join)
def test_a_study_that_does_not_exist(tmp_path: Path, finished: Path, command: list[str]) -> None:
    found = cli(*command, "nothing", "--root", finished, cwd=tmp_path).error
    assert "no study nothing" in found
    assert "tiny" in found
    assert (
        "expected at most 100" in cli(*command, "../tiny", "--root", finished, cwd=tmp_path).error
    )


def test_status_of_no_study(tmp_path: Path) -> None:
    assert "no study under mlruns" in cli("status", cwd=tmp_path).error
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "a", "--trials", "0"],
        ["run", "a", "--trials", "x"],
        ["front", "tiny", "--format", "xml"],
        ["nonsense"],
        ["check", "a", "--nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert done.code == 2
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
def test_hours_that_are_none(tmp_path: Path, value: str) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny())
    done = cli("run", sweep, f"--hours={value}", cwd=tmp_path)
    assert done.code == 2
    assert "--hours" in done.err
    assert "Traceback" not in done.err


def test_a_device_that_is_none(tmp_path: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny())
    assert "--device: found 'tpu'" in cli("run", sweep, "--device", "tpu", cwd=tmp_path).error


def test_an_address_beside_one_device(tmp_path: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny(execution={"device": "cuda:1"}))
    found = cli("run", sweep, "--address", "a:1", cwd=tmp_path).error
    assert "found device: cuda:1 beside an address, expected cuda, cpu or auto" in found


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny())
    found = cli("run", sweep, "--device", "cuda", cwd=tmp_path).error
    assert found == "found no device cuda, expected one of cpu"
    assert not (tmp_path / "mlruns").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = cli("run", "missing.yaml", "--debug", cwd=tmp_path)
    assert done.code != 0
    assert "Traceback" in done.err
    assert "missing.yaml" in done.err


# --- datasets ---


def pictures(folder: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    for part in parts:
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
            for i in range(6):
                Image.new("L", (8, 8), i).save(folder / part / name / f"{i}.png")
    return folder


def shards(folder: Path, column: str = "img") -> Path:
    import pandas

    folder.mkdir()
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    rows = {column: [content.getvalue()] * 12, "label": [0, 1] * 6}
    for part in ("train", "test"):
        pandas.DataFrame(rows).to_parquet(folder / f"{part}-0.parquet")
    return folder


def half(folder: Path) -> dict[str, Any]:
    return {"name": "folder", "root": str(pictures(folder, ("train",)))}


def other_columns(folder: Path) -> dict[str, Any]:
    return {"name": "parquet", "root": str(shards(folder, "photo"))}


def damaged(folder: Path) -> dict[str, Any]:
    image = pictures(folder) / "train/a/3.png"
    image.write_bytes(image.read_bytes()[:-30] + b"nonsense")
    return {"name": "folder", "root": str(folder)}


def no_parquet(folder: Path) -> dict[str, Any]:
    shards(folder)
    (folder / "train-0.parquet").write_bytes(b"PAR1 nonsense")
    return {"name": "parquet", "root": str(folder)}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (half, "no folder test in"),
        (other_columns, "has the columns photo, label"),
        (damaged, "3.png"),
        (no_parquet, "cannot be read"),
    ],
)
def test_a_dataset_that_cannot_be_used(
    tmp_path: Path, runs: Path, make: Any, expected: str
) -> None:
    """Also where it shows only once the images are decoded."""
    tree = tiny("data", dataset=make(tmp_path / "data") | {"validation": 0.34})
    sweep = write(tmp_path / "sweep.yaml", tree)
    assert expected in cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert not list((runs / "studies").glob("*"))


# --- disks, locks and servers ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs more rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path, database: Path) -> None:
    """Wherever it fills up, the error is one line, and with space the study goes on."""
    root = small_disk / "runs"
    root.mkdir()
    shutil.copy(database, root / "mlflow.db")
    sweep = write(tmp_path / "sweep.yaml", tiny("full", search__trials=4))
    filler = small_disk / "filler"
    for left in (4_000, 60_000, 130_000, 200_000):
        filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - left))
        done = cli("run", sweep, "--root", root, cwd=tmp_path)
        assert "no space left" in done.error.lower() or "disk is full" in done.error.lower()
        filler.unlink()
    done = cli("run", sweep, "--root", root, cwd=tmp_path)
    assert done.code == 0, done
    studies.assert_whole(studies.read(root, "full"), trials=4)


def test_a_folder_that_can_only_be_read(small_disk: Path, tmp_path: Path) -> None:
    """From the start, and in the middle of a study; nothing of what is there changes."""
    sweep = write(tmp_path / "sweep.yaml", tiny("fixed", search__trials=2))

    def remount(how: str) -> None:
        options = ["mount", "-o", f"remount,size=64m,{how}", str(small_disk)]
        subprocess.run(options, check=True)

    remount("ro")
    assert "read-only" in cli("run", sweep, "--root", small_disk / "runs", cwd=tmp_path).error
    remount("rw")
    root = small_disk / "runs"
    assert cli("run", sweep, "--root", root, "--trials", 1, cwd=tmp_path).code == 0
    before = studies.snapshot(root)
    remount("ro")
    assert "read-only" in cli("run", sweep, "--root", root, cwd=tmp_path).error.lower()
    remount("rw")
    assert studies.snapshot(root) == before
    assert cli("run", sweep, "--root", root, cwd=tmp_path).code == 0
    studies.assert_whole(studies.read(root, "fixed"), trials=2)


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny())
    (tmp_path / "file").write_text("")
    assert "file" in cli("run", sweep, "--root", "file", cwd=tmp_path).error
    assert "/proc" in cli("run", sweep, "--root", "/proc/runs", cwd=tmp_path).error


def test_a_second_driver_is_refused(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("locked", search__trials=studies.ENDLESS))
    first = Command("run", sweep, "--root", runs, cwd=tmp_path)
    assert first.until((runs / "studies/locked/trials/0000").exists)
    found = cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert f"process {first.pid} on {socket.gethostname()}" in found
    assert cli("status", "locked", "--root", runs, cwd=tmp_path).code == 0
    first.send(signal.SIGKILL)
    assert first.wait().code == -9


def test_a_changed_sweep_is_refused(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("same", search__trials=1))
    kill = Kill("micronet_search.study.driver:Driver.run", "before")
    assert Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill).wait().code == -9
    changed = tiny("same", search__trials=1, candidate__training__epochs=1)
    write(sweep, changed)
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("error: the sweep differs")
    assert "-    epochs: 3" in done.err
    assert "+    epochs: 1" in done.err
    assert "Traceback" not in done.err
    assert (runs / "studies/same/sweep.yaml").exists()
    free = tiny("same", search__trials=1, search__hours=1, execution={"device": "cpu"})
    assert cli("run", write(sweep, free), "--root", runs, cwd=tmp_path).code == 0
    studies.assert_whole(studies.read(runs, "same"), trials=1)


def test_a_total_that_was_asked_for_is_remembered(tmp_path: Path, runs: Path) -> None:
    """Until another one is; one that is lower than what has ended changes nothing."""
    sweep = write(tmp_path / "sweep.yaml", tiny("more", search__trials=1))
    kill = Kill("micronet_search.study.ledger:Ledger.enter", "after")
    first = Command("run", sweep, "--trials", 2, "--root", runs, cwd=tmp_path, kill=kill)
    assert first.wait().code == -9
    for again in ([], ["--trials", 1]):
        done = cli("run", sweep, *again, "--root", runs, cwd=tmp_path)
        assert done.code == 0, done
        assert "the total is 2 trials: that many have ended, or were asked for before" in done.out
        assert "more: 2 of 2 trials" in done.out
        assert " 2/2 " in cli("status", "--root", runs, cwd=tmp_path).out
    studies.assert_whole(studies.read(runs, "more"), trials=2)


def test_a_study_keeps_the_rungs_that_it_was_started_with(tmp_path: Path, runs: Path) -> None:
    """Those of a study from before there was `first_rung: auto` are written out as a number."""
    sweep = write(
        tmp_path / "sweep.yaml", tiny("old", search__trials=1, search__early_stopping="asha")
    )
    text = sweep.read_text()
    early = {"rule": "asha", "first_rung": 3}
    write(sweep, tiny("old", search__trials=1, search__early_stopping=early))
    kill = Kill("micronet_search.study.driver:Driver.run", "before")
    assert Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill).wait().code == -9
    sweep.write_text(text)
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "first_rung stays 3, as the study was started with it" in done.out
    left = studies.read(runs, "old")
    studies.assert_whole(left, trials=1)
    assert not any("rungs" in trial.user_attrs for trial in left.optuna)


@pytest.fixture
def with_damaged(tmp_path: Path, finished: Path) -> Path:
    """A root with the study `tiny`, and two later ones that are damaged."""
    root = shutil.copytree(finished, tmp_path / "runs")
    for name in ("newer", "other"):
        shutil.copytree(root / "studies/tiny", root / "studies" / name)
    with (root / "studies/newer/sweep.yaml").open("a") as file:
        file.write("colour: red\nshape: round\n")
    (root / "studies/other/trials/0002/outcome.json").write_text("{")
    return root


def test_a_damaged_study_hides_no_other(tmp_path: Path, with_damaged: Path) -> None:
    done = cli("status", "--root", with_damaged, cwd=tmp_path)
    assert done.code == 0, done
    assert " 3/3 " in done.out
    newer, other = done.err.splitlines()
    assert newer.startswith("warning: the study newer is left out: ")
    assert "newer/sweep.yaml" in newer
    assert "colour: unknown key" in newer
    assert other.startswith("warning: the study other is left out: ")
    assert "other/trials/0002/outcome.json" in other
    for name, file in (("newer", "sweep.yaml"), ("other", "outcome.json")):
        done = cli("status", name, "--root", with_damaged, cwd=tmp_path)
        assert done.code == 2
        assert done.err.startswith("error: ")
        assert f"{name}/" in done.err
        assert file in done.err
    shutil.rmtree(with_damaged / "studies/tiny")
    done = cli("status", "--root", with_damaged, cwd=tmp_path)
    assert done.code == 2
    *_, last = done.err.splitlines()
    assert last == f"error: none of the 2 studies under {with_damaged} can be read"
    assert "exit code is 2" in " ".join(cli("status", "--help", cwd=tmp_path).out.split())


def test_the_pages_are_those_of_a_study_that_can_be_read(
    tmp_path: Path, with_damaged: Path
) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = cli("ui", "--root", with_damaged, "--port", port, cwd=tmp_path)
    assert done.code == 2
    warning, error = done.err.splitlines()
    assert warning.startswith("warning: the study newer is left out: ")
    assert f"port {port}" in error


@pytest.mark.parametrize(
    ("file", "content", "commands"),
    [
        ("trials/0001/outcome.json", None, ["status", "front", "export", "run", "sync"]),
        ("study.json", '{"name": "tiny"}', ["run", "sync"]),
        ("clock.json", '{"minutes": 3}', ["run"]),
    ],
    ids=["outcome", "study", "clock"],
)
def test_a_damaged_file_of_a_study_is_one_line(
    tmp_path: Path, finished: Path, file: str, content: str | None, commands: list[str]
) -> None:
    root = shutil.copytree(finished, tmp_path / "runs")
    path = root / "studies/tiny" / file
    if content is None:
        content = json.dumps(json.loads(path.read_text()) | {"scores": {}})
    path.write_text(content)
    arguments = {"run": [finished.parent / "tiny.yaml"], "export": ["tiny", "--trial", 1]}
    for command in commands:
        given = arguments.get(command, ["tiny"])
        assert file in cli(command, *given, "--root", root, cwd=tmp_path).error
    assert path.read_text() == content


def test_ui_without_records_or_a_port(tmp_path: Path, runs: Path) -> None:
    assert "mlflow.db does not exist" in cli("ui", "--root", "nothing", cwd=tmp_path).error
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        found = cli("ui", "--root", runs, "--port", port, cwd=tmp_path).error
    assert f"port {port}" in found


def test_ctrl_c_in_the_middle_of_a_cleanup_is_still_ctrl_c() -> None:
    """Optuna removes a lock file that is gone when Ctrl-C comes while it removes the file."""
    error = FileNotFoundError(2, "no such file")
    assert not is_interrupt(error)
    error.__context__ = KeyboardInterrupt()
    assert is_interrupt(error)


class Interrupted:
    """Ctrl-C comes while the garbage collector is at work."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_in_a_callback_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        Interrupted()
        time.sleep(60)

    with pytest.raises(typer.Exit) as left, interruptible():
        work()
    assert left.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err.count("\n") == 1
