"""The JSON Schema of a sweep: the models' own, with distributions wherever a candidate takes them.

Pydantic describes a sweep and a candidate of plain values. Here every value below `candidate`
becomes that value or a distribution of such values, as `grammar` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from micronet_search.config.candidate import Candidate
from micronet_search.config.grammar import LIMIT
from micronet_search.config.model import JsonSchema
from micronet_search.config.options import FROM_THE_DATASET
from micronet_search.config.sweep import Sweep
from micronet_search.config.words import bounds, kind, name_of

REFERENCE = "#/$defs/"
SAID = ("description", "default", "since")
"""What a schema says of a key, beside what the value can be."""
# The grammar's, but for letters beyond ASCII: only some validators count them as \w.
BRANCH = r"^[^\x00-\x1f!-,.;-@\[-^`{-\x7f/]+(/[^\x00-\x1f!-,.;-@\[-^`{-\x7f/]+)*$"


def sweep_schema() -> JsonSchema:
    """Returns the JSON Schema of a sweep's file, of draft 2020-12."""
    models = plain_models()
    sweep = models.pop("Sweep")
    opened = _Opened(models)
    # A candidate as a whole is no value to choose, and `one_of` has mappings.
    candidate = sweep["properties"]["candidate"]
    candidate |= {"$ref": opened.searched(candidate), "not": {"required": ["choices"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:micronet-search:sweep",
        "title": "A sweep of micronet-search",
        **sweep,
        "$defs": dict(sorted({**models, **opened.found}.items())),
    }


def plain_models() -> dict[str, JsonSchema]:
    """Returns the JSON schemas of a sweep, a candidate and their parts by the names of the models.

    Values below `candidate` are plain, and what the dataset gives of a candidate is left out.
    """
    _, found = models_json_schema([(Sweep, "validation"), (Candidate, "validation")])
    models: dict[str, JsonSchema] = found["$defs"]
    for name in FROM_THE_DATASET:
        del models["Candidate"]["properties"][name]
    del models["Input"]
    candidate = models["Sweep"]["properties"]["candidate"]
    models["Sweep"]["properties"]["candidate"] = {
        "description": candidate["description"],
        "$ref": f"{REFERENCE}Candidate",
    }
    return models


def alternatives(node: JsonSchema) -> Iterator[JsonSchema]:
    """Yields what a value can be: references to models, mappings, lists and scalars."""
    unions = [part for key in ("anyOf", "oneOf") for part in node.get(key, ())]
    if unions and "properties" not in node:
        for part in unions:
            yield from alternatives(part)
    else:
        yield {key: part for key, part in node.items() if key not in SAID}


class _Opened:
    """Models whose values may be searched, as definitions of a schema.

    Attributes:
        found: The definitions by their names.
    """

    def __init__(self, models: dict[str, JsonSchema]) -> None:
        self.found: dict[str, JsonSchema] = {}
        self._models = models
        self._values: dict[str, list[JsonSchema]] = {}
        self._names: dict[tuple[str, str], list[str]] = {}
        """Of a union's members: all names that the field which tells them apart can have."""
        for model in models.values():
            for field in model.get("properties", {}).values():
                self._note_unions(field)
        for model in models.values():
            _tell_apart_by_values(model)

    def searched(self, node: JsonSchema) -> str:
        """Defines a value or a distribution of such values, and returns the reference to it."""
        values = list(alternatives(node))
        words = " or ".join(f"{kind(value)} {bounds(value)}" for value in values)
        name = "searched." + re.sub(r"\W+", "-", words).strip("-")
        while self._values.get(name, values) != values:  # the words do not tell all
            name += "-"
        reference = REFERENCE + name
        if name not in self.found:
            self._values[name] = values
            self.found[name] = {}  # it refers to itself
            self.found[name]["anyOf"] = [
                *(self._tree(value) for value in values),
                *(_range(value) for value in values if _is_number(value)),
                _choices(values),
                _one_of(reference),
            ]
        return reference

    def _tree(self, value: JsonSchema) -> JsonSchema:
        """Returns a plain value as it is, and a mapping with values that may be searched."""
        if "$ref" in value:
            model = name_of(value)
            if f"tree.{model}" not in self.found:
                self.found[f"tree.{model}"] = {}
                self.found[f"tree.{model}"] |= self._model(model)
            return {"$ref": f"{REFERENCE}tree.{model}"}
        if named := value.get("patternProperties"):
            opened = {key: {"$ref": self.searched(part)} for key, part in named.items()}
            return value | {"patternProperties": opened, "additionalProperties": False}
        return value

    def _model(self, model: str) -> JsonSchema:
        schema = self._models[model]
        fields = {
            name: self._field(field, self._names.get((model, name)))
            for name, field in schema["properties"].items()
        }
        return schema | {"properties": fields}

    def _field(self, field: JsonSchema, names: list[str] | None) -> JsonSchema:
        said = {key: part for key, part in field.items() if key in SAID}
        if names is None:
            return {"$ref": self.searched(field), **said}
        [own] = alternatives(field)
        other = {"$ref": self.searched({"enum": names, "type": "string"}), "type": "object"}
        return {"anyOf": [own, other], **said}

    def _note_unions(self, node: JsonSchema) -> None:
        if union := node.get("discriminator"):
            for reference in union["mapping"].values():
                place = name_of({"$ref": reference}), union["propertyName"]
                self._names[place] = list(union["mapping"])
        for part in node.get("anyOf", ()):
            self._note_unions(part)


def _tell_apart_by_values(node: Any) -> None:
    """Removes what OpenAPI adds to JSON Schema: a member's own field says as much."""
    if isinstance(node, dict):
        node.pop("discriminator", None)
        for part in node.values():
            _tell_apart_by_values(part)
    elif isinstance(node, list):
        for part in node:
            _tell_apart_by_values(part)


def _is_number(value: JsonSchema) -> bool:
    return value.get("type") in ("integer", "number")


def _range(value: JsonSchema) -> JsonSchema:
    number = {"type": value["type"], "exclusiveMaximum": LIMIT}
    end = number | value
    with_log = {"properties": {"log": {"const": True}}, "required": ["log"]}
    return {
        "title": "a range",
        "type": "object",
        "properties": {
            "low": end,
            "high": number,  # with a step, the range may end below
            "step": number | {"exclusiveMinimum": 0},
            "log": {"type": "boolean"},
        },
        "required": ["low", "high"],
        "additionalProperties": False,
        "anyOf": [{"required": ["step"]}, {"properties": {"high": end}}],
        "if": with_log,
        "then": {
            "properties": {"low": {"exclusiveMinimum": 0}},
            "not": {"required": ["step"]},
        },
    }


def _choices(values: list[JsonSchema]) -> JsonSchema:
    item = values[0] if len(values) == 1 else {"anyOf": values}
    listed = {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}
    return _distribution("one of some values", "choices", listed)


def _one_of(reference: str) -> JsonSchema:
    branches = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": BRANCH, "not": {"const": "one_of"}},
        "additionalProperties": {"$ref": reference},
    }
    return _distribution("one of some branches, each with a name", "one_of", branches)


def _distribution(title: str, word: str, inner: JsonSchema) -> JsonSchema:
    return {
        "title": title,
        "type": "object",
        "properties": {word: inner},
        "required": [word],
        "additionalProperties": False,
    }
