"""The candidate: one fully resolved configuration, every choice made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

from pydantic import Field, model_validator

from micronet_search.config.compression import Compression
from micronet_search.config.loading import describe
from micronet_search.config.model import Model
from micronet_search.config.network import MAX_LAYERS, Input, Network
from micronet_search.config.training import REACH, Distillation, StartingPoint, Training


class Fitted(Model):
    """The network of a candidate, and how it is fitted before it is compressed.

    Attributes:
        network: The network, of one of the families.
        training: How the network is fitted before it is compressed.
        distillation: The teacher whose outputs the network learns too; null for none.
        start: A trial of another study. The fit begins with the network that this trial had after
            its own first fit, and trains it for `training.epochs` more. Null for fresh weights.
    """

    input: Input = Input()
    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    network: Network
    training: Training
    distillation: Distillation | None = None
    start: StartingPoint | None = None


class Candidate(Compression, Fitted):
    """One configuration with every choice made: what a trial evaluates and `score` counts.

    The network is fitted, and then compressed by one technique after another, in the order of the
    fields of `Compression`. It learns from the teacher of `distillation` meanwhile.
    """

    # What is judged here is judged against `network` or `input`: `options` relies on it.
    @model_validator(mode="after")
    def _parts_go_together(self) -> Candidate:
        if self.training.span == "trial":
            self._settle(**dict(self._with_the_rates_of_the_schedule()))
        for problem in chain(
            self._networks_that_cannot_be(),
            self._blocks_that_are_missing(),
            self._views_that_are_missing(),
        ):
            raise ValueError(problem)
        return self

    def _with_the_rates_of_the_schedule(self) -> Iterator[tuple[str, Model]]:
        for name in Compression.model_fields:
            if (part := getattr(self, name)) is not None:
                default = type(part).model_fields["learning_rate_factor"].default
                yield name, part.model_copy(update={"learning_rate_factor": default})

    def _networks_that_cannot_be(self) -> Iterator[str]:
        networks: dict[str, Network | None] = {"network": self.network}
        if self.distillation is not None:
            networks["distillation.teacher.network"] = self.distillation.teacher.network
        most = min(self.input.height, self.input.width).bit_length() - 1
        for key, network in networks.items():
            if network is not None and network.halvings > most:
                found = f"{key}'s strides and blocks halve the image {network.halvings} times"
                image = f"{self.input.height} x {self.input.width} pixels"
                yield f"{found}, expected at most {most} for {image}"
            if network is not None and (layers := sum(network.layers)) > MAX_LAYERS:
                yield f"{key} has {layers} layers in its blocks, expected at most {MAX_LAYERS}"

    def _blocks_that_are_missing(self) -> Iterator[str]:
        blocks = self.network.blocks
        named = {
            "quantization.blocks": self.quantization.blocks if self.quantization else (),
            "pruning.exclude": self.pruning.exclude if self.pruning else (),
        }
        for key, names in named.items():
            for name in names:
                if name.startswith("block") and int(name.removeprefix("block")) > blocks:
                    found = f"{key} names {name} and network has {blocks} blocks"
                    yield f"{found}, expected one of them"

    def _views_that_are_missing(self) -> Iterator[str]:
        beyond = self.training.augmentation.beyond_views()
        if self.distillation is not None and self.distillation.cached and beyond:
            found = ", ".join(f"{name} {describe(value)}" for name, value in beyond.items())
            yield (
                f"distillation.cached is true and training.augmentation has {found}, "
                f"expected a crop of at most {REACH}, flip and nothing else"
            )

    def teacher(self) -> Candidate:
        """The candidate that its teacher's network and training are, for the same images."""
        assert self.distillation is not None
        network, training = self.distillation.teacher.network, self.distillation.teacher.training
        assert network is not None
        assert training is not None
        return Candidate(input=self.input, classes=self.classes, network=network, training=training)

    def digest(self) -> str:
        """A key that two candidates share if and only if they are the same.

        Defaults are left out, so that a field that a later version adds changes no key.
        """
        text = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
