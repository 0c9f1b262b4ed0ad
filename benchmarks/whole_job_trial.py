"""The trial of the other tools of `whole_job.py`, as a plain script has it.

The loop is a DataLoader with torchvision's transforms, tensors as they come, and the running
statistics of the norms as they are. All else would be for the user to write, and comes from this
package: networks, pruning, fake quantization, optimizer, step, schedule, what is stored and its
score. That is in favour of these tools, and so is a loader without processes of its own where they
only cost time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import step_loops
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.compression.technique import techniques_of
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import draw
from micronet_search.config.files import load_sweep
from micronet_search.config.options import read_candidate
from micronet_search.config.training import Augmentation
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.scoring.rules import scores
from micronet_search.search.encoding import encode
from micronet_search.training.fit import Fit, accuracy
from micronet_search.trial.feed import Feed
from micronet_search.trial.stages import Stage, stages

CPU = torch.device("cpu")
Row = dict[str, float]
"""What is reported of an epoch: `epoch`, `loss`, `accuracy` and `score`."""


class Pictures(step_loops.Pictures):
    """Pictures and labels, as torchvision's CIFAR10 gives them, augmented as the sweep asks."""

    def __init__(self, data: Splits, augmentation: Augmentation) -> None:
        super().__init__(data.train, data.normalization)
        changes: list[nn.Module] = []
        if augmentation.crop:
            changes.append(v2.RandomCrop(data.input.height, padding=augmentation.crop))
        if augmentation.flip:
            changes.append(v2.RandomHorizontalFlip())
        self.transform = v2.Compose([*changes, *self.transform.transforms[-3:]])


def dataset(data: Splits, augmentation: Augmentation) -> Dataset[Any]:
    """Returns the training images: tensors where nothing changes them, pictures otherwise."""
    if augmentation == Augmentation():
        return TensorDataset(data.normalization(data.train.images), data.train.labels)
    return Pictures(data, augmentation)


class Job:
    """What the trials of a job share: the sweep, the images, and where trials are written."""

    def __init__(self, sweep: Path, folder: Path, workers: int = 0) -> None:
        """Reads the images. `workers` are the processes of a loader that changes pictures."""
        self.path, self.folder, self.workers = sweep, folder, workers
        self.sweep = load_sweep(sweep)
        self.data = splits.load(self.sweep.dataset)
        self.rule = self.sweep.objectives.score.rule

    def candidate(self, choices: Mapping[str, Any]) -> Candidate:
        """Returns the candidate of some choices, by the names that Optuna has for them."""

        def pick(path: str, found: Any) -> Any:
            options = found.options()
            return next(o for o in options if str(encode(found, o)) == str(choices[path]))

        tree = draw(self.sweep.space, pick).tree
        return read_candidate(tree, self.data.input, self.data.classes)

    def loader(self, candidate: Candidate) -> DataLoader[Any]:
        """Returns the shuffled training images."""
        images = dataset(self.data, candidate.training.augmentation)
        workers = self.workers if isinstance(images, Pictures) else 0
        return DataLoader(
            images,
            candidate.training.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def train(self, candidate: Candidate, seed: int, report: Callable[[Row], None]) -> Row:
        """Trains a candidate through its stages, reports all epochs but the last, returns that."""
        torch.manual_seed(seed)
        plan, cost = build.planned(candidate)
        network, loader = build.network(candidate, seed), self.loader(candidate)
        feed = Feed(self.data, candidate.training, seed, CPU)
        found = stages(candidate, plan)
        predicted, last = scores(cost)[self.rule].score, found[-1].end
        for count, stage in enumerate(found, 1):
            if stage.technique is not None:
                stage.technique.transform(network, candidate)
                stage.technique.calibrate(network, feed.calibration())
            fit = new_fit(network, candidate, stage, len(loader))
            for epoch in range(stage.start + 1, stage.end + 1):
                loss = train_epoch(fit, candidate, found[:count], epoch, loader)
                if epoch < last:
                    reached = accuracy(network, feed.validation())
                    row = {"epoch": epoch, "loss": loss, "accuracy": reached, "score": predicted}
                    report(row)
        update_bn(feed.calibration(), network)
        for technique in techniques_of(candidate):
            technique.finish(network, candidate)
        tensors = stored.store(network, plan)
        stored.install(network, tensors)
        reached = accuracy(network, feed.validation())
        score = scores(cost.measured(tensors))[self.rule].score
        self.write({"accuracy": reached, "score": score, "digest": candidate.digest()})
        return {"epoch": last, "loss": loss, "accuracy": reached, "score": score}

    def write(self, trial: dict[str, Any]) -> None:
        """Notes a trial that has just ended."""
        with (self.folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps({"ended": time.time(), **trial}) + "\n")


def new_fit(network: nn.Module, candidate: Candidate, stage: Stage, steps: int) -> Fit:
    """Returns optimizer and schedule of a stage, in which an epoch has so many steps."""
    rates = stage.rates
    return Fit(
        network,
        candidate.training,
        learning_rate=rates.peak,
        steps=steps * (rates.end - rates.start),
        first_step=steps * (stage.start - rates.start),
    )


def train_epoch(
    fit: Fit,
    candidate: Candidate,
    begun: tuple[Stage, ...],
    epoch: int,
    loader: DataLoader[Any],
) -> float:
    """Trains one epoch of the last of the stages that have begun, and returns its mean loss."""
    stage, techniques = begun[-1], [each.technique for each in begun if each.technique]
    if stage.technique is not None:
        progress = (epoch - stage.start) / stage.epochs
        stage.technique.before_epoch(fit.network, candidate, progress)
    repairs = [repair for one in techniques if (repair := one.after_step(fit.network))]

    def after_step() -> None:
        for repair in repairs:
            repair(fit.network)

    return fit.epoch(loader, after_step)
