"""One candidate through its stages. Knows neither Optuna nor MLflow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor, nn

from micronet_search import build, shipped
from micronet_search.compression import prune, quantize, stored
from micronet_search.config.candidate import Candidate
from micronet_search.data.batches import (
    batches_in_epoch,
    evaluation_batches,
    normalized,
    training_batches,
)
from micronet_search.data.images import Images, Normalization
from micronet_search.data.splits import Splits
from micronet_search.score.cost import Cost
from micronet_search.score.rules import scores
from micronet_search.stages import Stage, stages
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Epoch, Outcome, Result
from micronet_search.store.tables import to_csv
from micronet_search.training.distillation import SoftTargets
from micronet_search.training.evaluate import accuracy
from micronet_search.training.fit import DivergenceError, Fit

EVALUATION_BATCH = 1000
CALIBRATION_BATCHES = 4
RISE = 0.75
"""The share of the pruning epochs over which the sparsity rises."""


@dataclass(frozen=True)
class _Saved:
    """What a checkpoint holds; the tensors are looked at by those whose they are."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epoch: int
    entered: Annotated[int, Field(ge=0)]
    curve: list[Epoch]
    seconds: dict[str, float]
    started: float
    network: dict[str, Any]
    fit: dict[str, Any] | None


_SAVED = TypeAdapter(_Saved)


class Trial:
    """Trains, compresses and scores one candidate: `begin`, `advance` as often as wanted, `finish`.

    Every epoch draws its randomness from the seed and its own number, so that a trial that goes on
    from a checkpoint does what it would have done without the break.
    """

    def __init__(
        self,
        candidate: Candidate,
        splits: Splits,
        *,
        seed: int,
        device: torch.device,
        teacher: bytes | None = None,
    ) -> None:
        """Prepares a trial.

        Args:
            candidate: What is evaluated.
            splits: The dataset, on `device`.
            seed: Where all of the randomness comes from.
            device: Where it trains.
            teacher: The model file of the teacher, where the candidate has one.
        """
        self.candidate = candidate
        self.splits = splits
        self.seed = seed
        self.device = device
        self.teacher = teacher
        self.plan, self.cost = build.planned(candidate)
        self.stages = stages(candidate, integer=self.plan.integer)
        self.epoch = 0
        self.curve: list[Epoch] = []
        self.seconds: dict[str, float] = {}
        self.started = time.time()
        self._entered = 0
        self._fit: Fit | None = None

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return self.stages[-1].end

    def begin(self, content: bytes | None = None) -> None:
        """Makes the network, or takes it from a checkpoint.

        Raises:
            DamagedCheckpointError: The checkpoint is not what was saved.
            ValueError: The teacher is not the model of a trial.
        """
        self.network = build.network(self.candidate, self.seed)
        self._soft_targets = self._distilled()
        saved = None if content is None else self._saved(content)
        for stage in self.stages[: self._entered]:
            if stage.name in build.TRANSFORMS:
                build.transform(self.network, self.candidate, stage.name)
        self._place(self.network)
        if saved is None:
            return
        if saved.fit is not None:
            self._fit = self._new_fit(self.stages[self._entered - 1])
        with _damaged_where_it_does_not_fit():
            self.network.load_state_dict(saved.network)
            if self._fit is not None and saved.fit is not None:
                self._fit.restore(saved.fit)

    def _saved(self, content: bytes) -> _Saved:
        """Takes the numbers out of a checkpoint, before anything is made as they say."""
        with _damaged_where_it_does_not_fit():
            saved = _SAVED.validate_python(checkpoint.unflatten(*checkpoint.unpack(content)))
            stage = self.stages[saved.entered - 1]
            after, end = (stage.start, stage.end) if saved.entered else (-1, 0)
            if not after < saved.epoch <= end or (saved.fit is None) != (saved.epoch == end):
                raise ValueError(f"epoch {saved.epoch} is not in stage {saved.entered}")
            if len(saved.curve) != saved.epoch:
                raise ValueError(f"found {len(saved.curve)} rows of {saved.epoch} epochs")
        self.epoch, self._entered = saved.epoch, saved.entered
        self.curve, self.seconds = saved.curve, saved.seconds
        self.started = saved.started
        return saved

    def _distilled(self) -> SoftTargets | None:
        asked = self.candidate.distillation
        if asked is None:
            return None
        assert self.teacher is not None
        network = _Teacher(shipped.unpack(self.teacher), self.splits.normalization)
        self._place(network)
        return SoftTargets(network, asked.temperature, asked.weight)

    def _place(self, network: nn.Module) -> None:
        # convolutions read channels-last images faster, as `normalized` makes them
        network.to(self.device).to(memory_format=torch.channels_last)

    def checkpoint(self) -> bytes:
        """All that `begin` needs to go on from here."""
        state = {
            "epoch": self.epoch,
            "entered": self._entered,
            "curve": [asdict(row) for row in self.curve],
            "seconds": self.seconds,
            "started": self.started,
            "network": dict(self.network.state_dict()),
            "fit": None if self._fit is None else self._fit.state(),
        }
        return checkpoint.pack(*checkpoint.flatten(state))

    def advance(self, to_epoch: int) -> None:
        """Trains until `to_epoch` epochs are done, over as many stages as they lie in.

        Raises:
            DivergenceError: The loss became NaN or infinite.
        """
        while self.epoch < to_epoch:
            while self._fit is None:
                self._enter()
            stage = self.stages[self._entered - 1]
            with self._clock(stage.name):
                self._train(stage)
                if self.epoch == stage.end:
                    self._fit.finish()
                    self._fit = None

    def _enter(self) -> None:
        """Enters the next stage; one without epochs is over with that."""
        stage = self.stages[self._entered]
        with self._clock(stage.name):
            if stage.name == "prune" and stage.epochs == 0:
                self._prune(progress=1.0)
            if stage.name in build.TRANSFORMS:
                build.transform(self.network, self.candidate, stage.name)
                self._place(self.network)
            if stage.name == "quantize" and self.plan.integer:
                quantize.calibrate(self.network, self._calibration())
            self._entered += 1
            if stage.epochs:
                self._fit = self._new_fit(stage)

    def _prune(self, progress: float) -> None:
        pruning = self.candidate.pruning
        assert pruning is not None
        prune.prune(self.network, prune.sparsity_at(pruning, progress), pruning.exclude)

    def _new_fit(self, stage: Stage) -> Fit:
        training = self.candidate.training
        return Fit(
            self.network,
            training,
            epochs=stage.epochs,
            steps_per_epoch=batches_in_epoch(len(self.splits.train), training.batch_size),
            learning_rate=stage.learning_rate,
            warmup=stage.warmup,
            soft_targets=self._soft_targets,
        )

    def _train(self, stage: Stage) -> None:
        """One epoch, and its row in the curve."""
        assert self._fit is not None
        begun = time.perf_counter()
        done = self.epoch - stage.start
        if stage.name == "prune":
            self._prune(progress=(done + 1) / (RISE * stage.epochs))
        has_zeros = self.candidate.pruning is not None and stage.name in ("prune", "quantize")
        kept = prune.masks(self.network) if has_zeros else {}
        judged = self._fit.judged
        training = self.candidate.training
        batches = training_batches(
            self.splits.train,
            self.splits.normalization,
            training.augmentation,
            training.batch_size,
            self.splits.classes,
            self._generator(self.epoch),
            mixing=done < stage.epochs - training.augmentation.unmixed_epochs,
        )
        loss = self._fit.epoch(batches, lambda: prune.apply(self.network, kept))
        if judged is not self.network:
            prune.apply(judged, kept)
        self.epoch += 1
        found = accuracy(judged, self._evaluation(self.splits.validation))
        seconds = time.perf_counter() - begun
        self.curve.append(Epoch(self.epoch, stage.name, loss, found, seconds, time.time()))

    def _generator(self, epoch: int) -> torch.Generator:
        digest = hashlib.blake2b(f"{self.seed}/{epoch}".encode(), digest_size=7).digest()
        return torch.Generator(self.device).manual_seed(int.from_bytes(digest))

    def _evaluation(self, images: Images) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return evaluation_batches(images, self.splits.normalization, EVALUATION_BATCH)

    def _calibration(self) -> Iterator[torch.Tensor]:
        size = self.candidate.training.batch_size
        chosen = torch.randperm(
            len(self.splits.train), generator=self._generator(-1), device=self.device
        )
        for part in chosen.split(size)[:CALIBRATION_BATCHES]:
            yield normalized(self.splits.train.images[part], self.splits.normalization)

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def finish(self) -> Result:
        """Evaluates and scores the shipped network, after the last epoch.

        Raises:
            DivergenceError: Some value is beyond the width in which it is stored.
        """
        assert self.epoch == self.epochs, (self.epoch, self.epochs)
        while self._entered < len(self.stages):
            self._enter()
        tensors = stored.store(self.network, self.plan)
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise DivergenceError(f"{name} is not finite as stored, in {tensor.dtype}")
        stored.install(self.network, tensors)
        with self._clock("evaluate"):
            found = accuracy(self.network, self._evaluation(self.splits.validation))
        cost = self.cost.measured(tensors)
        model = {
            "candidate": self.candidate.model_dump(mode="json"),
            "normalization": asdict(self.splits.normalization),
        }
        files = {
            "model.safetensors": checkpoint.pack(tensors, model),
            "layers.csv": to_csv([layer.to_json() for layer in cost.layers]).encode(),
        }
        return self._result("complete", cost, accuracy=found, files=files)

    def stopped(self, reason: str) -> Result:
        """The result of a trial that ends at a rung, with its predicted score."""
        return self._result("stopped", self.cost, accuracy=self.curve[-1].accuracy, reason=reason)

    def failed(self, reason: str) -> Result:
        """The result of a trial that cannot go on."""
        return self._result("failed", None, reason=reason)

    def _result(
        self,
        state: Literal["complete", "stopped", "failed"],
        cost: Cost | None,
        *,
        accuracy: float | None = None,
        reason: str | None = None,
        files: dict[str, bytes] | None = None,
    ) -> Result:
        counted: dict[str, Any] = {}
        if cost is not None:
            counted = {
                "scores": {name: score.to_json() for name, score in scores(cost).items()},
                "parameters": cost.parameters,
                "nonzeros": cost.nonzeros,
                "macs": cost.macs,
                "storage_bits": cost.storage_bits,
            }
        outcome = Outcome(
            state=state,
            started=self.started,
            ended=time.time(),
            device=str(self.device),
            reason=reason,
            accuracy=accuracy,
            seconds=self.seconds,
            curve=tuple(self.curve),
            **counted,
        )
        rows = [asdict(row) for row in self.curve]
        curve = {"curve.csv": to_csv(rows).encode()} if rows else {}
        return Result(outcome, curve | (files or {}))


class _Teacher(nn.Module):
    """A shipped network that takes images as the student's dataset normalises them."""

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        self.normalization = normalization

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.network(image / self.normalization.scale + self.normalization.mean)
        return logits


@contextmanager
def _damaged_where_it_does_not_fit() -> Iterator[None]:
    """Has a checkpoint that is not one of its trial count as damaged.

    Raises:
        DamagedCheckpointError: In the place of whatever it led to.
    """
    try:
        yield
    except (torch.OutOfMemoryError, checkpoint.DamagedCheckpointError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"the checkpoint is damaged, or not one of this trial: {reason}"
        raise checkpoint.DamagedCheckpointError(message) from error
