"""Writes the learning curves of a study's complete trials as CSV.

    python benchmarks/record_curves.py STUDY_FOLDER > benchmarks/curves.csv

A row per trial: its number, the predicted and the final score, the final accuracy, and the accuracy
after each epoch of the first fit.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from micronet_search import build
from micronet_search.config.files import load_candidate, load_stored_sweep
from micronet_search.score.rules import scores
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import StudyFolder


def rows(folder: StudyFolder) -> Iterator[dict[str, object]]:
    """The rows, in the order of the trials' numbers."""
    rule = load_stored_sweep(folder.sweep).objectives.score.rule
    for number in folder.trials():
        files = folder.trial(number)
        if not files.outcome.exists():
            continue
        outcome = Outcome.from_json(json.loads(files.outcome.read_text()))
        if outcome.state != "complete":
            continue
        predicted = scores(build.predict(load_candidate(files.candidate)))[rule].score
        fit = [epoch for epoch in outcome.curve if epoch.stage == "fit"]
        yield {
            "number": number,
            "predicted": f"{predicted:.7f}",
            "score": f"{outcome.scores[rule]['score']:.7f}",
            "accuracy": f"{outcome.accuracy:.4f}",
            **{f"epoch{epoch.epoch}": f"{epoch.accuracy:.4f}" for epoch in fit},
        }


def main() -> None:
    found = list(rows(StudyFolder(Path(sys.argv[1]))))
    writer = csv.DictWriter(sys.stdout, found[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)


if __name__ == "__main__":
    main()
