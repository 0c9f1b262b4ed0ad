"""What the JSON schema of a plain value says, in words."""

from micronet_search.config.model import JsonSchema

_TYPES = {
    "string": "text",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "null": "null",
    "object": "mapping",
}


def name_of(reference: JsonSchema) -> str:
    """Returns the name of the model to which a schema refers."""
    name: str = reference["$ref"].rpartition("/")[2]
    return name


def kind(value: JsonSchema) -> str:
    """Returns what a value is, in the singular: "whole number", "list of text", "adam or sgd"."""
    if "$ref" in value:
        return name_of(value)
    if "const" in value:
        return str(value["const"])
    if "enum" in value:
        return either([str(one) for one in value["enum"]])
    if value["type"] == "array":
        return f"list of {kind(value['items'])}"
    return _TYPES[value["type"]]


def bounds(value: JsonSchema) -> str:
    """Returns how large a value may be, or what its text is like; nothing if all are allowed."""
    if value.get("type") == "array":
        ends = _between(value.get("minItems"), value.get("maxItems"))
        return ", ".join(filter(None, (bounds(value["items"]), ends and f"{ends} of them")))
    if "patternProperties" in value:
        value = value["propertyNames"]
    if "patternErrorMessage" in value:
        return str(value["patternErrorMessage"]).removeprefix("expected ")
    low, high = value.get("minimum"), value.get("maximum")
    above, below = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    return _between(low, high, above, below)


def _between(
    low: float | None, high: float | None, above: float | None = None, below: float | None = None
) -> str:
    if low is not None and high is not None:
        return f"from {number(low)} to {number(high)}"
    words = {"above": above, "at least": low, "below": below, "at most": high}
    return ", ".join(f"{word} {number(at)}" for word, at in words.items() if at is not None)


def number(value: float) -> str:
    """Returns a number without a fraction that is zero."""
    return str(int(value)) if value == int(value) else repr(value)


def either(names: list[str]) -> str:
    """Returns names as a list in words."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
