"""A trial: a loop over the stages of one candidate."""

import time

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from micronet_search import build, shipped
from micronet_search.compression import stored
from micronet_search.compression.technique import Repair, techniques_of
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Splits
from micronet_search.store.files import to_csv
from micronet_search.store.outcome import Epoch, Result
from micronet_search.store.paths import FITTED_FILE, MODEL_FILE
from micronet_search.training.fit import DivergenceError, Fit, accuracy
from micronet_search.trial import fitted, saved
from micronet_search.trial.feed import Feed
from micronet_search.trial.history import History
from micronet_search.trial.stages import Stage, stages
from micronet_search.trial.teacher import soft_targets


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
        start: bytes | None = None,
    ) -> None:
        """Prepares a trial.

        Args:
            candidate: What is evaluated.
            splits: The dataset, on `device`.
            seed: Where all of the randomness comes from.
            device: Where it trains.
            teacher: Where the candidate has a teacher, its model file, or its outputs for the
                views of the training images if they are cached.
            start: The fitted network of the trial that the candidate starts from, if from any.
        """
        self.candidate = candidate
        self.seed = seed
        self.device = device
        self.teacher = teacher
        self.start = start
        self.feed = Feed(splits, candidate.training, seed, device)
        self.plan, self.cost = build.planned(candidate)
        self.stages = stages(candidate, self.plan)
        self.history = History()
        self._entered = 0
        self._fit: Fit | None = None
        self._fitted: dict[str, Tensor] | None = None

    @property
    def epoch(self) -> int:
        """Epochs trained so far, over all stages."""
        return self.history.epoch

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return self.stages[-1].end

    def begin(self, content: bytes | None = None) -> None:
        """Makes the network with the weights that it starts from, or takes it from a checkpoint.

        Raises:
            DamagedCheckpointError: The checkpoint is not what was saved.
            ValueError: The teacher is not the model of a trial, or not its outputs, or the network
                to start from is another one.
        """
        self.network = build.network(self.candidate, self.seed)
        self._soft_targets = soft_targets(self.candidate, self.teacher, self.feed)
        found = None if content is None else saved.unpack(content, self.stages)
        if found is not None:
            self.history, self._entered, self._fitted = found.history, found.entered, found.fitted
        elif self.start is not None:
            fitted.load(self.network, self.start)
        for stage in self.stages[: self._entered]:
            if stage.technique is not None:
                stage.technique.transform(self.network, self.candidate)
        self.feed.place(self.network)
        if found is None:
            return
        if found.fit is not None:
            self._fit = self._new_fit(self.stages[self._entered - 1])
        with saved.damaged_where_it_does_not_fit():
            self.network.load_state_dict(found.network)
            if self._fit is not None and found.fit is not None:
                self._fit.restore(found.fit)

    def checkpoint(self) -> bytes:
        """Returns all that `begin` needs to go on from here."""
        fit = None if self._fit is None else self._fit.state()
        state = dict(self.network.state_dict())
        return saved.pack(self.history, self._entered, state, fit, self._fitted)

    def advance(self, to_epoch: int) -> None:
        """Trains until `to_epoch` epochs are done, over as many stages as they lie in.

        Raises:
            DivergenceError: The loss became NaN or infinite.
        """
        while self.epoch < to_epoch:
            while self._fit is None:
                self._enter()
            stage = self.stages[self._entered - 1]
            with self.history.clock(stage.name):
                self._train(stage, self._fit)
                if self.epoch == stage.end:
                    self._fit.finish()
                    self._fit = None
                    if stage.technique is None:
                        self._fitted = fitted.state(self.network)

    def finish(self) -> Result:
        """Evaluates and scores the shipped network, after the last epoch.

        Raises:
            DivergenceError: Some value is beyond the width in which it is stored.
        """
        assert self.epoch == self.epochs, (self.epoch, self.epochs)
        while self._entered < len(self.stages):
            self._enter()
        update_bn(self.feed.calibration(), self.network)
        for technique in techniques_of(self.candidate):
            technique.finish(self.network, self.candidate)
        tensors = stored.store(self.network, self.plan)
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise DivergenceError(f"{name} is not finite as stored, in {tensor.dtype}")
        stored.install(self.network, tensors)
        with self.history.clock("evaluate"):
            found = accuracy(self.network, self.feed.validation())
        cost = self.cost.measured(tensors)
        files = {
            MODEL_FILE: shipped.pack(self.candidate, tensors, self.feed.normalization),
            "layers.csv": to_csv([layer.to_json() for layer in cost.layers]).encode(),
        }
        if self._fitted is not None:
            files[FITTED_FILE] = fitted.pack(self._fitted)
        device = str(self.device)
        return self.history.result("complete", device, cost=cost, accuracy=found, files=files)

    def stopped(self, reason: str) -> Result:
        """Returns the result of a trial that ends at a rung, with its predicted score."""
        reached, device = self.history.curve[-1].accuracy, str(self.device)
        return self.history.result(
            "stopped", device, cost=self.cost, accuracy=reached, reason=reason
        )

    def failed(self, reason: str) -> Result:
        """Returns the result of a trial that cannot go on."""
        return self.history.result("failed", str(self.device), reason=reason)

    def _enter(self) -> None:
        """Begins the next stage; one without epochs is over with that."""
        stage = self.stages[self._entered]
        with self.history.clock(stage.name):
            if stage.technique is not None:
                stage.technique.transform(self.network, self.candidate)
                self.feed.place(self.network)
                stage.technique.calibrate(self.network, self.feed.calibration())
                if not stage.epochs:
                    stage.technique.before_epoch(self.network, self.candidate, 1.0)
            self._entered += 1
            if stage.epochs:
                self._fit = self._new_fit(stage)

    def _new_fit(self, stage: Stage) -> Fit:
        rates, steps = stage.rates, self.feed.steps_per_epoch
        return Fit(
            self.network,
            self.candidate.training,
            learning_rate=rates.peak,
            steps=steps * (rates.end - rates.start),
            first_step=steps * (stage.start - rates.start),
            warmup=steps * rates.warmup,
            soft_targets=self._soft_targets,
        )

    def _train(self, stage: Stage, fit: Fit) -> None:
        """Trains one epoch, and adds its row to the curve."""
        begun = time.perf_counter()
        if stage.technique is not None:
            progress = (self.epoch + 1 - stage.start) / stage.epochs
            stage.technique.before_epoch(self.network, self.candidate, progress)
        repair = self._repair()
        unmixed = self.candidate.training.augmentation.unmixed_epochs
        mixing, soft = self.epoch < stage.rates.end - unmixed, self._soft_targets
        batches = self.feed.training(self.epoch, mixing, None if soft is None else soft.of_views)
        loss = fit.epoch(batches, lambda: repair(self.network))
        if fit.judged is not self.network:
            repair(fit.judged)
        # the running statistics are of earlier weights and of augmented images
        update_bn(self.feed.calibration(), fit.judged)
        found = accuracy(fit.judged, self.feed.validation())
        seconds, epoch = time.perf_counter() - begun, self.epoch + 1
        self.history.curve.append(Epoch(epoch, stage.name, loss, found, seconds, time.time()))

    def _repair(self) -> Repair:
        """Returns what the techniques so far want done after each step."""
        begun = [stage.technique for stage in self.stages[: self._entered] if stage.technique]
        repairs = [repair for one in begun if (repair := one.after_step(self.network))]

        def repair_all(network: nn.Module) -> None:
            for repair in repairs:
                repair(network)

        return repair_all
