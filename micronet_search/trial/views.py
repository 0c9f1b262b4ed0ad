"""The outputs of a teacher for every view of the training images, which students look up."""

import time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from micronet_search import shipped
from micronet_search.data.splits import Splits
from micronet_search.data.views import VIEWS, Views
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Epoch, Result
from micronet_search.store.paths import VIEWS_FILE
from micronet_search.training.fit import DivergenceError
from micronet_search.trial import saved
from micronet_search.trial.history import History
from micronet_search.trial.stages import Rates, Stage

BATCH = 1000
MAX_BYTES = 2**29
"""The most that the outputs may take: they are held in memory, and sent to every slot."""


def size(images: int, classes: int) -> int:
    """Returns the bytes of the outputs, in half precision."""
    return 2 * VIEWS * images * classes


def unpack(content: bytes, images: int, classes: int) -> Tensor:
    """Reads the file that `Viewing` leaves: logits, float16 (VIEWS, images, classes).

    Raises:
        ValueError: It is damaged, or was made for other images.
    """
    tensors, _ = checkpoint.unpack(content)
    logits, expected = tensors.get("logits"), (VIEWS, images, classes)
    if logits is None or (logits.shape, logits.dtype) != (expected, torch.float16):
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        raise ValueError(f"found {found}, expected logits of {expected}, {torch.float16}")
    if not logits.isfinite().all():
        raise ValueError("found logits of a teacher that are not finite, expected numbers")
    return logits


class Viewing:
    """Has a teacher compute its outputs, a view after the other.

    It is run like a trial, with each view for an epoch, so that it can be paused and goes on from a
    checkpoint. The curve has the accuracy of the teacher on each view of the training images.
    """

    stages = (Stage("views", 0, VIEWS, Rates(0, VIEWS, peak=0.0)),)
    epochs = VIEWS

    def __init__(self, teacher: bytes, splits: Splits, device: torch.device) -> None:
        """Prepares for the model file of a teacher and the dataset, which is on `device`."""
        self.history = History()
        self._teacher = teacher
        self._images, self._labels = splits.train.images, splits.train.labels
        self._fill = splits.normalization.mean
        self._device = device
        self._logits: list[Tensor] = []  # float16 (images, classes), of each view so far

    @property
    def epoch(self) -> int:
        """Views that are done."""
        return self.history.epoch

    def begin(self, content: bytes | None = None) -> None:
        """Reads the teacher, and what a checkpoint has of its outputs.

        Raises:
            DamagedCheckpointError: The checkpoint is not what was saved.
            ValueError: The teacher is not the model of a trial.
        """
        network = shipped.unpack(self._teacher)
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        if content is None:
            return
        found = saved.unpack(content, self.stages)
        with saved.damaged_where_it_does_not_fit():
            logits = found.network["logits"]
            if (len(logits), logits.dtype) != (found.epoch, torch.float16):
                raise ValueError(f"found no outputs of {found.epoch} views")
            self.history, self._logits = found.history, list(logits)

    def checkpoint(self) -> bytes:
        """Returns all that `begin` needs to go on from here."""
        logits = {"logits": torch.stack(self._logits)}
        return saved.pack(self.history, 1, logits, None if self.epoch == self.epochs else {})

    def advance(self, to_epoch: int) -> None:
        """Computes until so many views are done."""
        while self.epoch < to_epoch:
            with self.history.clock(self.stages[0].name):
                self._see(self.epoch)

    def finish(self) -> Result:
        """Returns the file of all outputs, after the last view.

        Raises:
            DivergenceError: An output is beyond half precision.
        """
        logits = torch.stack(self._logits)
        if not logits.isfinite().all():
            raise DivergenceError("the teacher's outputs are not finite in half precision")
        files = {VIEWS_FILE: checkpoint.pack({"logits": logits}, {})}
        return self.history.result("complete", str(self._device), files=files)

    def stopped(self, reason: str) -> Result:
        """Returns the result of a job that is told to end early."""
        return self.history.result("stopped", str(self._device), reason=reason)

    def failed(self, reason: str) -> Result:
        """Returns the result of a job that cannot go on."""
        return self.history.result("failed", str(self._device), reason=reason)

    @torch.no_grad()
    def _see(self, number: int) -> None:
        """Computes one view, and adds its row to the curve."""
        begun = time.perf_counter()
        parts = []
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for images in self._images.split(BATCH):
                view = Views.numbered(number, len(images), self._device)
                seen = view.cut(images, self._fill).contiguous(memory_format=torch.channels_last)
                parts.append(self._network(seen))
        logits = torch.cat(parts)
        loss = float(cross_entropy(logits, self._labels))
        right = float((logits.argmax(1) == self._labels).float().mean())
        self._logits.append(logits.half().cpu())
        seconds, stage = time.perf_counter() - begun, self.stages[0].name
        self.history.curve.append(Epoch(number + 1, stage, loss, right, seconds, time.time()))
