"""Describes a sweep's space before anything is trained."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from micronet_search import build
from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import DRAWS
from micronet_search.config.loading import read_yaml
from micronet_search.config.options import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems
from micronet_search.data import splits
from micronet_search.report.live import duration
from micronet_search.scoring.rules import scores
from micronet_search.search.space import size
from micronet_search.study.opening import check_space, find_known


@dataclass
class Sample:
    """Draws from a sweep's space, evenly.

    Attributes:
        found: The candidates with their predicted scores, the lowest score first.
        duplicates: How many draws were candidates that had been drawn before.
        impossible: How many draws are no candidates.
    """

    found: list[tuple[float, Candidate]] = field(default_factory=list)
    duplicates: int = 0
    impossible: int = 0

    @property
    def median(self) -> Candidate:
        """The candidate of the median score, the lower one of two."""
        return self.found[(len(self.found) - 1) // 2][1]


def refuse_candidate(file: Path) -> None:
    """Tells a candidate from a sweep.

    Raises:
        ValueError: The file is that of a candidate.
    """
    tree = read_yaml(file).tree
    if "network" in tree and "candidate" not in tree:
        raise ValueError(
            f"{file} is a candidate, expected a sweep; `micronet-search score {file}` says what it "
            "costs"
        )


def sample(sweep: Sweep) -> Sample:
    """Draws from a sweep's space.

    Raises:
        ValueError: The dataset does not go with the space, or no draw can be built.
    """
    images, classes = splits.describe(sweep.dataset)
    check_space(sweep, images, classes)
    find_known(sweep, images, classes)
    pick = distributions.pick_random(random.Random(sweep.search.seed))
    drawn, seen, reason = Sample(), set[str](), ""
    for _ in range(DRAWS):
        try:
            tree = distributions.draw(sweep.space, pick).tree
            candidate = read_candidate(tree, images, classes)
            if (digest := candidate.digest()) in seen:
                drawn.duplicates += 1
                continue
            score = scores(build.predict(candidate))[sweep.objectives.score.rule].score
            seen.add(digest)
            drawn.found.append((score, candidate))
        except ValidationError as error:
            drawn.impossible += 1
            reason = validation_problems(error, Candidate)[0][1]
        except build.TooLargeError as error:
            drawn.impossible += 1
            reason = str(error)
    if not drawn.found:
        raise ValueError(f"candidate: none of {DRAWS} draws can be built: {reason}")
    drawn.found.sort(key=lambda pair: pair[0])
    return drawn


def describe(sweep: Sweep, drawn: Sample) -> list[str]:
    """Says what the candidates of a space and their scores are like, and if none is trained."""
    goal, found = sweep.objectives.score, [score for score, _ in drawn.found]
    choices, draws = distributions.leaves(sweep.space), size(sweep.space)
    median, lowest = statistics.median(found), found[0]
    screened = sum(score > goal.at_most for score in found)
    above = f"above the ceiling of {goal.at_most:g}, so that nothing would be trained"
    widen = "raise objectives.score.at_most, or widen `candidate` towards cheaper networks"
    if not choices:
        lines = [f"space: one candidate, with a predicted {goal.rule} score of {median:.6f}"]
        return lines + [f"warning: it is {above}: {widen}"] * (lowest > goal.at_most)
    lines = [
        f"space: {'a continuum' if draws is None else f'{draws:,} draws'}, "
        f"from {len(choices)} choices: {', '.join(choices)}",
        f"predicted {goal.rule} score over {len(found)} candidates: "
        f"{lowest:.6f} to {found[-1]:.6f}, median {median:.6f}",
        f"of {DRAWS} draws {screened} would be screened with a score above {goal.at_most:g}"
        f", {drawn.duplicates} as duplicates and {drawn.impossible} as impossible",
    ]
    return lines + [f"warning: all of them are {above}: {widen}"] * (lowest > goal.at_most)


def estimate(sweep: Sweep, drawn: Sample) -> list[str]:
    """Trains the candidate of the median score for an epoch, and says what a study would take.

    Raises:
        ValueError: The dataset or the device cannot be used.
    """
    import torch

    from micronet_search.engine.choice import choose_device
    from micronet_search.trial.stages import total_epochs
    from micronet_search.trial.trial import Trial

    device = choose_device(sweep.execution.device)
    candidate = drawn.median.model_copy(update={"distillation": None})  # it has no teacher yet
    torch.manual_seed(sweep.search.seed)
    loaded = splits.load(sweep.dataset).to(device)
    trial = Trial(candidate, loaded, seed=sweep.search.seed, device=device)
    trial.begin()
    trial.advance(1)
    seconds = trial.history.curve[0].seconds
    epochs = statistics.fmean(map(total_epochs, (candidate for _, candidate in drawn.found)))
    whole, trials = seconds * epochs, sweep.search.trials
    lines = [
        f"an epoch of the candidate of the median score takes {seconds:.2g} s on {device}; "
        f"{epochs:.0f} epochs a trial make {duration(whole)}",
        f"{trials} trials take about {duration(trials * whole)}, one after the other, if none is "
        "stopped early; epochs of quantization take up to twice as long",
    ]
    if sweep.search.hours is not None:
        lines.append(f"search.hours ends the study after {sweep.search.hours:g} hours")
    return lines
