"""What others reached on CIFAR-10, as marks to compare a study with."""

from dataclasses import dataclass

from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input
from micronet_search.config.sweep import Sweep


@dataclass(frozen=True)
class Known:
    """A result by the `imt` rule: its accuracy on CIFAR-10's test images, 0 to 1, and its score."""

    name: str
    accuracy: float
    score: float


# The report that this project starts from gives 112,000 weights in 16 bits: 0.0100 is what they
# cost, its operations come on top. The best entry of the course's contest is known with the goal
# alone. PACT (Choi et al., 2018) gives the accuracies of ResNet-20 with weights and activations of
# 4, 3 and 2 bits; its scores are counted as if every layer had these widths, which flatters it.
KNOWN = (
    Known("the report's DenseNet, weights alone", 0.901, 0.0100),
    Known("best entry of the course", 0.90, 0.0129),
    Known("PACT ResNet-20, 4 bits", 0.908, 0.024),
    Known("PACT ResNet-20, 3 bits", 0.906, 0.018),
    Known("PACT ResNet-20, 2 bits", 0.889, 0.012),
)


def comparable(sweep: Sweep, candidate: Candidate | None) -> tuple[Known, ...]:
    """Returns the results that a study can be compared with; those of other images are none.

    Args:
        sweep: The study's.
        candidate: One of the study's, which tells the images of a folder; None if there is none.
    """
    images = (candidate.input, candidate.classes) if candidate else None
    is_cifar = sweep.dataset.name == "cifar10" or (
        sweep.dataset.name in ("parquet", "folder") and images == (Input(), 10)
    )
    return KNOWN if is_cifar and sweep.objectives.score.rule == "imt" else ()
