"""Where trials run, and where their records are kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from micronet_search.config.loading import describe
from micronet_search.config.model import Model, NotNegative, Positive, TextLike

Device = Annotated[str, TextLike(r"auto|cpu|cuda(:[0-9]{1,3})?", "auto, cpu, cuda or cuda:N")]


MOST_SLOTS, MOST_BY_ITSELF = 256, 8
"""The most trials that may share a device, and that share it where `auto` is asked for."""


def _is_number_of_slots(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= MOST_SLOTS):
        expected = f"auto, or a whole number, 1 to {MOST_SLOTS}"
        raise ValueError(f"found {describe(value)}, expected {expected}")
    return value


Slots = Annotated[int, Field(ge=1, le=MOST_SLOTS)]
SlotsOfDevice = Annotated[Slots | Literal["auto"], BeforeValidator(_is_number_of_slots)]


class Execution(Model):
    """Where trials run.

    Attributes:
        engine: `inline` runs them one by one in the driver's process, `ray` several at once, on
            every device and node of a Ray cluster. `auto` takes Ray where it is installed and there
            is more than one slot.
        device: `auto` takes CUDA where there is a device, and `cuda` every one that there is.
        trials_per_device: Trials that share a device: a GPU, or a node's processors. `auto` is one
            for each processor that the device can have for itself, and 8 at most, because trials
            that run at once cannot learn from each other. It needs Ray, and is 1 without.
        address: HOST:PORT of a Ray cluster; null for one of this machine, made for the study.
        retries: How often a trial that crashed is tried again from its last checkpoint.
        checkpoint_minutes: The most training that a crash costs. Checkpoints are written at ends of
            epochs, and at rungs and ends of stages anyway.
    """

    engine: Literal["auto", "inline", "ray"] = "auto"
    device: Device = "auto"
    trials_per_device: SlotsOfDevice = "auto"
    address: str | None = None
    retries: NotNegative = 1
    checkpoint_minutes: Positive = 5.0

    def slots_of_device(self, processors: float) -> int:
        """Returns how many trials share a device that has so many processors for itself."""
        if self.trials_per_device != "auto":
            return self.trials_per_device
        return max(1, min(int(processors), MOST_BY_ITSELF))

    @model_validator(mode="after")
    def _slots_of_ray(self) -> Execution:
        for name, plain in (("trials_per_device", ("auto", 1)), ("address", (None,))):
            found = getattr(self, name)
            if self.engine == "inline" and found not in plain:
                raise ValueError(f"found {name}: {found}, expected engine: ray with it")
        if self.address is not None and self.device.startswith("cuda:"):
            found = f"found device: {self.device} beside an address, expected cuda, cpu or auto"
            raise ValueError(f"{found}: the devices of a cluster are Ray's to give")
        return self


class Tracking(Model):
    """Addresses of the records.

    Attributes:
        optuna: The URL of a database for Optuna; null for a file of the study.
        mlflow: The URI of a tracking server or a database for MLflow; null for
            `MLFLOW_TRACKING_URI` or, without it, a database under the root.
        artifacts: The URI of the folder for MLflow's artifacts; null for a folder under the root.
    """

    optuna: str | None = None
    mlflow: str | None = None
    artifacts: str | None = None
