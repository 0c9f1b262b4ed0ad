"""How a network is fitted, as a candidate gives it: optimizer, schedule, teacher."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_serializer, model_validator

from micronet_search.config.augmentation import REACH as REACH
from micronet_search.config.augmentation import Augmentation as Augmentation
from micronet_search.config.augmentation import ColorJitter as ColorJitter
from micronet_search.config.model import (
    BY_NAME,
    Fraction,
    Listed,
    Model,
    Name,
    NotNegative,
    Positive,
    PositiveInt,
    Share,
    either,
)
from micronet_search.config.network import Network


class Cosine(Model):
    """Half a cosine down to zero (Loshchilov and Hutter, 2017).

    Attributes:
        name: The name of the schedule.
        restarts: How often the rate rises to its peak again and the cosine begins anew.
    """

    name: Literal["cosine"]
    restarts: Annotated[int, Field(ge=0, le=100)] = 0


class OneCycle(Model):
    """Up and down again, the momentum the other way (Smith and Topin, 2018).

    Attributes:
        name: The name of the schedule.
    """

    name: Literal["one-cycle"]


class Linear(Model):
    """A straight line down to zero.

    Attributes:
        name: The name of the schedule.
    """

    name: Literal["linear"]


class MultiStep(Model):
    """A constant rate that falls at milestones.

    Attributes:
        name: The name of the schedule.
        milestones: When the rate falls, as rising shares of what the schedule spans.
        factor: What the rate is multiplied by at each milestone.
    """

    name: Literal["multi-step"]
    milestones: Listed[Fraction] = (0.5, 0.75)
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1

    @model_validator(mode="after")
    def _milestones_rise(self) -> MultiStep:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones are {list(self.milestones)}, expected rising shares")
        return self


Schedule = Annotated[Cosine | OneCycle | Linear | MultiStep, Field(discriminator="name")]


class Training(Model):
    """How the network is fitted.

    Attributes:
        epochs: Epochs of the first fit.
        batch_size: Images in a batch.
        optimizer: `sgd` (Nesterov), `adam`, `adamw` or `muon` (Jordan et al., 2024: convolutions'
            weights as matrices; the classifier, biases, norms and scales by AdamW).
        learning_rate: Peak of the schedule.
        momentum: Momentum of `sgd` and `muon`, first beta of the others; `one-cycle` moves it by
            0.05 around this, against the rate.
        schedule: How the learning rate changes: the name of a schedule, or a mapping with its name
            and options.
        span: What the schedule spans. `stage`: each stage, with a peak of its own. `trial`: all
            stages, so that the network is compressed on the tail of one schedule, and no
            `learning_rate_factor` counts.
        warmup: Epochs of linear warm-up before the schedule; `one-cycle`, which has a rise of its
            own, takes none, and keeps the default.
        weight_decay: Decay of weights, which biases, norms and scales do not have.
        label_smoothing: Share of the target spread evenly over the classes.
        ema: Decay per step of the averaged network, which then is the one that counts; null for no
            average.
        gradient_clip: Largest norm of the gradient; null for no limit.
        augmentation: What happens to the training images.
    """

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "adam"
    learning_rate: Positive
    momentum: Fraction = 0.9
    schedule: Annotated[Schedule, BY_NAME] = Cosine(name="cosine")
    span: Literal["stage", "trial"] = "stage"
    warmup: NotNegative = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Fraction = 0.0
    ema: Fraction | None = None
    gradient_clip: Positive | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _warmup_fits(self) -> Training:
        if self.warmup >= self.epochs:
            found = f"warmup is {self.warmup} and epochs {self.epochs}"
            raise ValueError(f"{found}, expected fewer epochs of warm-up")
        if self.schedule.name == "one-cycle":
            self._settle(warmup=0)
        return self


class Teacher(Model):
    """Whose outputs a student learns: a network to train once, or a trial of another study.

    The network is neither pruned nor quantized. The study has the same root, and the trial, given
    by its number, is complete.

    Attributes:
        network: The network of a teacher that is trained once.
        training: How that network is fitted.
        study: In their place, the name of another study.
        trial: The number of a trial of that study.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                either("network", "training", but_not=("study", "trial")),
                either("study", "trial", but_not=("network", "training")),
            ]
        }
    )

    network: Network | None = None
    training: Training | None = None
    study: Name | None = None
    trial: NotNegative | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Teacher:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if given not in (["network", "training"], ["study", "trial"]):
            found = " and ".join(given) or "neither"
            raise ValueError(f"found {found}, expected network and training, or study and trial")
        return self

    @model_serializer(mode="wrap")
    def _what_is_given(self, handler: Any) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class StartingPoint(Model):
    """The trial of another study, under the same root, with whose network a fit begins.

    It is the network that the trial had after its own first fit, in full precision. Both have the
    same `network` and training images.

    Attributes:
        study: The name of the other study.
        trial: The number of its trial.
    """

    study: Name
    trial: NotNegative


class Distillation(Model):
    """Learning from a teacher's outputs, in every stage (Hinton et al., 2015).

    Attributes:
        teacher: Whose outputs are learned.
        temperature: What divides the logits of both.
        weight: Share of the soft targets in the loss; the true ones have the rest.
        cached: Whether the teacher's outputs are made once, for 50 views of each training image:
            crops that move it by 2 pixels at most, and their mirrors. The student trains on these
            views alone, as fast as without a teacher. Otherwise the teacher computes along.
    """

    teacher: Teacher
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 4.0
    weight: Share = 0.5
    cached: bool = False
