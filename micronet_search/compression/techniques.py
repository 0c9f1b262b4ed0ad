"""Every compression technique, in the order in which a trial applies them."""

from __future__ import annotations

from importlib import import_module

from micronet_search.compression.technique import Technique
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Compression


def _technique(field: str) -> Technique:
    found: Technique = import_module(f"micronet_search.compression.{field}").TECHNIQUE
    assert found.field == field, field
    return found


TECHNIQUES: tuple[Technique, ...] = tuple(map(_technique, Compression.model_fields))
"""The technique of each field of `config.compression.Compression`, from the module of its name."""


def techniques_of(candidate: Candidate) -> list[Technique]:
    """Returns the techniques that a candidate asks for, in their order."""
    return [technique for technique in TECHNIQUES if technique.config(candidate) is not None]
