"""Tensors and plain values in one file of the safetensors format, without pickle.

`pack(*flatten(state))` makes the bytes of a state, and `unflatten(*unpack(content))` restores the
state bit by bit: the `state_dict` of a network, for example, or a mapping of several.
"""

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

_DIGITS = 64  # hexadecimal digits of the checksum
_BLANK = "0" * _DIGITS
# The header has one entry: the checksum, then the JSON tree. safetensors would write several
# entries in any order, and the same state must give the same bytes. Quotes inside names and texts
# are escaped, so the mark is found at this entry alone.
_ENTRY = "state"
_MARK = f'"{_ENTRY}":"'.encode()
_NOT_PACKED = "the checkpoint is damaged, expected what `pack` writes"

MAX_HEADER = 16 * 2**20  # bytes; the largest network needs a tenth of it


class DamagedCheckpointError(ValueError):
    """The bytes are not those that were packed."""


def pack(tensors: dict[str, Tensor], meta: Any) -> bytes:
    """Packs named tensors, on any device, and a JSON tree into a file with a checksum."""
    # The tensors are copied because safetensors refuses tensors that share memory.
    stored = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    content = safetensors.torch.save(stored, {_ENTRY: _BLANK + json.dumps(meta)})
    start = content.index(_MARK) + len(_MARK)
    return content[:start] + _checksum(content) + content[start + _DIGITS :]


def read_plain(path: Path) -> Any:
    """Reads the plain values of a state that was packed into a file; its tensors become None.

    The tensors are not read, so that the checksum is not looked at. A file that is none is a
    DamagedCheckpointError.
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        content = file.read(min(size, MAX_HEADER))
    try:
        meta = json.loads(json.loads(content)["__metadata__"][_ENTRY][_DIGITS:])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{_NOT_PACKED}: {error}") from None
    return unflatten(defaultdict(lambda: cast(Tensor, None)), meta)


def unpack(content: bytes) -> tuple[dict[str, Tensor], Any]:
    """Returns the tensors, on the CPU, and the tree that `pack` packed.

    Bytes that were cut or changed, or that `pack` did not write, are a DamagedCheckpointError.
    Anyone can forge a checksum, so the rest of the file is checked too.
    """
    start = content.find(_MARK) + len(_MARK)
    found = content[start : start + _DIGITS]
    blank = content[:start] + _BLANK.encode() + content[start + _DIGITS :]
    if found != _checksum(blank):
        what = f"its {len(content):,} bytes do not agree with its checksum"
        raise DamagedCheckpointError(f"the checkpoint is damaged: {what}")
    size = int.from_bytes(content[:8], "little")
    if size > MAX_HEADER:
        what = f"a header of {size:,} bytes, expected at most {MAX_HEADER:,}"
        raise DamagedCheckpointError(f"the checkpoint has {what}")
    try:
        header = json.loads(content[8 : 8 + size], object_pairs_hook=_unique)
        meta = json.loads(header["__metadata__"][_ENTRY][_DIGITS:])
        return safetensors.torch.load(content), meta
    except (ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{_NOT_PACKED}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")  # readers could disagree on it
    return dict(pairs)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGITS // 2).hexdigest().encode()


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Splits a state into named tensors and a JSON tree.

    The state is nested dictionaries (with texts or integers as keys), lists and tuples of tensors,
    numbers, texts, truth values and None; anything else is a TypeError.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _to_tree(state, "", tensors)


def _to_tree(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Returns the JSON tree of a node, and adds its tensors under their dotted paths."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Tensor):
        assert name not in tensors, f"two tensors are called {name}"
        tensors[name] = node
        return {"tensor": name}
    prefix = f"{name}." if name else ""
    if isinstance(node, dict):  # as pairs, because the keys of a JSON object must be texts
        return {"dict": [[key, _to_tree(node[key], f"{prefix}{key}", tensors)] for key in node]}
    if isinstance(node, list | tuple):
        items = [_to_tree(item, f"{prefix}{i}", tensors) for i, item in enumerate(node)]
        return {"tuple": items} if isinstance(node, tuple) else items
    raise TypeError(f"{name} is a {type(node).__name__}, expected a tensor or a plain value")


def unflatten(tensors: dict[str, Tensor], meta: Any) -> Any:
    """Returns the state that `flatten` split; anything else is a DamagedCheckpointError."""
    try:
        return _from_tree(tensors, meta)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{_NOT_PACKED}: {error}") from None


def _from_tree(tensors: dict[str, Tensor], node: Any) -> Any:
    match node:
        case list():
            return [_from_tree(tensors, item) for item in node]
        case {"tensor": str(name), **rest} if not rest:
            return tensors[name]
        case {"tuple": list(items), **rest} if not rest:
            return tuple(_from_tree(tensors, item) for item in items)
        case {"dict": list(pairs), **rest} if not rest:
            return {key: _from_tree(tensors, item) for key, item in pairs}
        case dict():
            raise ValueError(f"found {', '.join(node) or 'nothing'}, no kind of value")
    return node
