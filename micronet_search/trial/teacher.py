"""The teacher of a trial, as the trial uses it."""

from torch import Tensor, nn

from micronet_search import shipped
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Normalization
from micronet_search.training.fit import SoftTargets
from micronet_search.trial import views
from micronet_search.trial.feed import Feed


class Teacher(nn.Module):
    """A shipped network that takes images as the student's dataset normalises them."""

    def __init__(self, content: bytes, normalization: Normalization) -> None:
        """Reads the teacher.

        Args:
            content: Its model file.
            normalization: That of the student's images.

        Raises:
            ValueError: The file is not the model of a trial.
        """
        super().__init__()
        self.network = shipped.unpack(content)
        self.normalization = normalization

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.network(image / self.normalization.scale + self.normalization.mean)
        return logits


def soft_targets(candidate: Candidate, content: bytes | None, feed: Feed) -> SoftTargets | None:
    """Returns what a candidate learns from its teacher; None where it has no teacher.

    Args:
        candidate: The student's.
        content: The model file of the teacher, or its outputs where the candidate has them cached.
        feed: The student's images.

    Raises:
        ValueError: The file is not the model of a trial, or not the outputs for these images.
    """
    asked = candidate.distillation
    if asked is None:
        return None
    assert content is not None
    if asked.cached:
        of_views = views.unpack(content, feed.images, feed.classes).to(feed.device)
        return SoftTargets(None, asked.temperature, asked.weight, of_views)
    network = feed.place(Teacher(content, feed.normalization))
    return SoftTargets(network, asked.temperature, asked.weight)
