"""What a class and its fields mean, as its docstring says."""

import inspect
import re

_ATTRIBUTES = "\n\nAttributes:\n"
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n      .*)*)", re.MULTILINE)


def intro(model: type) -> str:
    """Returns the first paragraph of the class's own docstring on one line."""
    text = inspect.cleandoc(model.__dict__.get("__doc__") or "")
    return _one_line(text.split("\n\n")[0])


def meanings(model: type) -> dict[str, str]:
    """Returns what the `Attributes:` of a class and of those it extends say, by their names."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        _, _, listed = inspect.cleandoc(one.__dict__.get("__doc__") or "").partition(_ATTRIBUTES)
        found |= {name: _one_line(text) for name, text in _ENTRY.findall(listed)}
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
