"""The commands that score, confirm and ship models."""

from __future__ import annotations

import io
import json
import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from micronet_search.cli.common import (
    DEFAULT_ROOT,
    INTERRUPTED,
    Address,
    AtLeast,
    Device,
    Root,
    Study,
    app,
    console,
    elsewhere,
    interruptible,
    read,
    root_folder,
)
from micronet_search.runtime import OPSET_NEWEST, OPSET_OLDEST

ScoreFormat = StrEnum("ScoreFormat", ["TABLE", "JSON"])
BoardFormat = StrEnum("BoardFormat", ["TABLE", "CSV", "HTML"])
Opset = Annotated[
    int,
    typer.Option(
        help="The newest ONNX opset that model.onnx may use: integers of 2 bits need 25, those of "
        "4 bits 21, and become wider below.",
        min=OPSET_OLDEST,
        max=OPSET_NEWEST,
    ),
]


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CANDIDATE.yaml, MODEL.onnx or model.mnz.")],
    format: Annotated[ScoreFormat, typer.Option(help="What to print.")] = ScoreFormat.TABLE,
) -> None:
    """Counts the cost of a candidate or a model without running it, and scores it by every rule."""
    from micronet_search.report import tables
    from micronet_search.report.score import score as read

    scored = read(file)
    if format == ScoreFormat.JSON:
        print(json.dumps(scored.to_json(), indent=2))
    else:
        console().print(tables.cost_table(scored.cost))
        print(*scored.lines(), sep="\n")


@app.command(
    epilog="Accuracy is measured on the test split alone. A submission that is damaged, odd or too "
    "slow is told at the end with the reason, and stops nothing."
)
def leaderboard(
    folder: Annotated[
        Path, typer.Argument(help="The folder of submissions: *.mnz, *.onnx, or exports.")
    ],
    dataset: Annotated[
        str,
        typer.Option(help="digits, cifar10, or a folder of parquet files or class folders."),
    ],
    at_least: Annotated[
        float, typer.Option(help="The accuracy that is asked for.", min=1e-6, max=1)
    ] = 0.9,
    at_most: Annotated[
        float | None, typer.Option(help="The highest score that is allowed.", min=0)
    ] = None,
    rule: Annotated[str, typer.Option(help="imt or micronet2019.")] = "imt",
    format: Annotated[BoardFormat, typer.Option(help="What to print.")] = BoardFormat.TABLE,
    seconds: Annotated[int, typer.Option(help="The most for a submission.", min=1)] = 600,
) -> None:
    """Ranks a folder of models by their score; those that are accurate enough come first."""
    from micronet_search.report import standings
    from micronet_search.report.leaderboard import Goals
    from micronet_search.report.leaderboard import leaderboard as judge

    goals = Goals(at_least, math.inf if at_most is None else at_most, rule)
    board = judge(folder, dataset, goals, seconds)
    if isinstance(sys.stdout, io.TextIOWrapper):  # which may not know each letter of a name
        sys.stdout.reconfigure(errors="replace")
    if format == BoardFormat.TABLE:
        console().print(standings.to_table(board, console()))
        print(*board.reasons(), sep="\n")
    else:
        write = standings.to_page if format == BoardFormat.HTML else standings.to_rows
        print(write(board).rstrip())


@app.command(
    epilog="Ctrl-C pauses, and the same command continues. What has been trained is not trained "
    "again, so that more --seeds or a greater --top add to it."
)
def confirm(
    study: Study,
    top: Annotated[int, typer.Option(help="Candidates, the cheapest first.", min=1)] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each.", min=1)] = 3,
    full_train: Annotated[
        bool, typer.Option("--full-train", help="Train on the validation images too.")
    ] = False,
    device: Device = None,
    address: Address = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Trains the candidates of the front again with other seeds, and tests them."""
    from micronet_search import confirm as confirming
    from micronet_search.report import tables
    from micronet_search.report.live import Display

    sweep = read(study, root).sweep.override(execution={"device": device, "address": address})
    with interruptible(), Display(study, console()) as display:
        progress = confirming.confirm(
            root_folder(root), sweep, display, top=top, seeds=seeds, full_train=full_train
        )
    view = read(study, root)
    console().print(tables.repeated_table(view))
    if progress.paused:
        print("paused; run the same command to continue")
        raise typer.Exit(INTERRUPTED)
    if best := view.confirmed():
        print(f"confirmed: trial {best[0]['trial']} is the cheapest of {len(best)}")
        print(f"next: micronet-search export {study} --best{elsewhere(root)}")
    else:
        print("no trial is confirmed: the mean test accuracy less a standard error misses the goal")


@app.command()
def export(
    study: Study,
    best: Annotated[
        bool, typer.Option("--best", help="The lowest score, of what is confirmed if anything is.")
    ] = False,
    trial: Annotated[int | None, typer.Option(help="The trial of this number.", min=0)] = None,
    front: Annotated[bool, typer.Option("--front", help="Every trial on the front.")] = False,
    to: Annotated[Path | None, typer.Option(help="Default: exports/STUDY/TRIAL.")] = None,
    opset: Opset = OPSET_NEWEST,
    at_least: AtLeast = None,
    register: Annotated[
        bool, typer.Option("--register", help="Put them into MLflow's registry.")
    ] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Ships models as ONNX and safetensors, checked against each other on the test split.

    Of a trial that is confirmed, --best and --front ship the repeat of the median test accuracy.
    """
    from micronet_search.data.splits import load
    from micronet_search.export.ship import export_trial
    from micronet_search.tracking import registry

    if [best, trial is not None, front].count(True) != 1:
        raise ValueError("expected one of --best, --trial N and --front")
    view = read(study, root, at_least)
    confirmed = view.confirmed() if best else []
    numbers = [trial] if trial is not None else [row["trial"] for row in confirmed or view.front()]
    sure = {row["trial"] for row in read(study, root).confirmed()} if register else set()
    chosen = "--front" if front else "--best"
    chosen += "" if at_least is None else f" --at-least {at_least:g}"
    splits = load(view.sweep.dataset)
    folder, entries = to or Path("exports") / study, []
    for number in numbers[:1] if best else numbers:
        destination = folder / f"{number:04d}" if front or to is None else folder
        own = view.folder.trial(number)
        source = view.shipped(number) if trial is None else own
        exported = export_trial(source, splits, destination, opset, chosen)
        print(exported)
        # by the study's own goal, so that one champion can be compared with the next
        entries.append(exported.entry(confirmed=source != own and number in sure))
    _record(study, root)
    for entry in entries if register else []:
        print(registry.register(view.sweep, root_folder(root), entry))
    if best and not confirmed:
        hint = f"`micronet-search confirm {study}{elsewhere(root)}` says how sure that is"
        print(f"note: no trial is confirmed yet; {hint}", file=sys.stderr)


def _record(study: str, root: Path) -> None:
    """Tells MLflow what exports take to run; where that cannot be done, a note says why."""
    from micronet_search.report import explain
    from micronet_search.study.sync import sync

    try:
        sync(root_folder(root), study)
    except (ValueError, OSError) as error:
        command = f"`micronet-search sync {study}{elsewhere(root)}`"
        # where the study's folder cannot be written, there is nothing to record later
        hint = "" if isinstance(error, OSError) else f"; {command} records what was measured"
        print(f"note: {explain(error)}{hint}", file=sys.stderr)
