"""The candidate: one fully resolved configuration, every choice made."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from micronet_search.config.compression import Compression
from micronet_search.config.model import Model
from micronet_search.config.network import MAX_LAYERS, Input, Network
from micronet_search.config.training import Distillation, Training


class Fitted(Model):
    """The network of a candidate, and how it is fitted before it is compressed."""

    input: Input = Input()
    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    network: Network
    training: Training
    distillation: Distillation | None = None


class Candidate(Compression, Fitted):
    """One configuration with every choice made: what a trial evaluates and `score` counts.

    The network is fitted, and then compressed by one technique after another, in the order of the
    fields of `Compression`. It learns from the teacher of `distillation` meanwhile.
    """

    # What is judged here is judged against `network` or `input`: `options` relies on it.

    @model_validator(mode="after")
    def _image_survives_the_strides(self) -> Candidate:
        side = min(self.input.height, self.input.width)
        for key, network in self._networks():
            if side < 2**network.halvings:
                most, image = int(math.log2(side)), f"{self.input.height} x {self.input.width}"
                raise ValueError(
                    f"{key}'s strides and blocks halve the image {network.halvings} times, "
                    f"expected at most {most} for {image} pixels"
                )
        return self

    @model_validator(mode="after")
    def _layers_that_can_be_built(self) -> Candidate:
        for key, network in self._networks():
            if (found := sum(network.layers)) > MAX_LAYERS:
                raise ValueError(
                    f"{key} has {found} layers in its blocks, expected at most {MAX_LAYERS}"
                )
        return self

    @model_validator(mode="after")
    def _blocks_that_are_there(self) -> Candidate:
        blocks = self.network.blocks
        for key, name in self._named_blocks():
            if int(name.removeprefix("block")) > blocks:
                raise ValueError(
                    f"{key} names {name} and network has {blocks} blocks, expected one of them"
                )
        return self

    def _networks(self) -> Iterator[tuple[str, Network]]:
        yield "network", self.network
        if self.distillation is not None and self.distillation.teacher.network is not None:
            yield "distillation.teacher.network", self.distillation.teacher.network

    def _named_blocks(self) -> Iterator[tuple[str, str]]:
        for name in self.quantization.blocks if self.quantization else ():
            yield "quantization.blocks", name
        for name in self.pruning.exclude if self.pruning else ():
            if name.startswith("block"):
                yield "pruning.exclude", name

    def teacher(self) -> Candidate:
        """The candidate that its teacher's network and training are, for the same images."""
        assert self.distillation is not None
        network, training = self.distillation.teacher.network, self.distillation.teacher.training
        assert network is not None
        assert training is not None
        return Candidate(input=self.input, classes=self.classes, network=network, training=training)

    def digest(self) -> str:
        """A key that two candidates share if and only if they are the same."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
