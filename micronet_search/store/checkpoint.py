"""Tensors and plain values as one file in the safetensors format, never pickle.

Any state is packed as `pack(*flatten(state))` and comes back as `unflatten(*unpack(content))`,
bit by bit: a network's `state_dict`, an optimizer's, or a mapping that holds several of them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

_DIGITS = 64  # of the digest, in hexadecimal
_BLANK = "0" * _DIGITS
# Where the digest stands in the header, before the tree. A quote inside a name or a text is escaped
# there, so this is found nowhere else before the tensors. They share one entry, because safetensors
# puts several in any order, and the same state is to give the same bytes.
_ENTRY = "state"
_MARK = f'"{_ENTRY}":"'.encode()

MAX_HEADER = 16 * 2**20
"""Bytes of names, shapes and the tree: an order of magnitude more than the largest network has."""


_NOT_PACKED = "the checkpoint is damaged, expected what `pack` writes"


class DamagedCheckpointError(ValueError):
    """The bytes are not those that were packed."""


def pack(tensors: dict[str, Tensor], meta: Any) -> bytes:
    """Packs named tensors, wherever they are, and a plain JSON tree.

    Args:
        tensors: Of any shape and of any type that safetensors knows.
        meta: What `json.dumps` writes and reads back as it was.

    Returns:
        A safetensors file whose metadata holds the tree and a checksum over the whole file.
    """
    # Copies, because safetensors refuses tensors that share memory.
    stored = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    content = safetensors.torch.save(stored, {_ENTRY: _BLANK + json.dumps(meta)})
    start = content.index(_MARK) + len(_MARK)
    return content[:start] + _digest(content) + content[start + _DIGITS :]


def unpack(content: bytes) -> tuple[dict[str, Tensor], Any]:
    """The tensors, on the CPU, and the tree that `pack` packed.

    Raises:
        DamagedCheckpointError: The bytes were cut or changed, or never packed: who wants to can
            make the checksum too.
    """
    start = content.find(_MARK) + len(_MARK)
    found = content[start : start + _DIGITS]
    blank = content[:start] + _BLANK.encode() + content[start + _DIGITS :]
    if found != _digest(blank):
        raise DamagedCheckpointError(
            f"the checkpoint is damaged: its {len(content):,} bytes do not agree with its checksum"
        )
    size = int.from_bytes(content[:8], "little")
    if size > MAX_HEADER:
        raise DamagedCheckpointError(
            f"the checkpoint has a header of {size:,} bytes, expected at most {MAX_HEADER:,}"
        )
    try:
        header = json.loads(content[8 : 8 + size], object_pairs_hook=_unique)
        meta = json.loads(header["__metadata__"][_ENTRY][_DIGITS:])
        return safetensors.torch.load(content), meta
    except (ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{_NOT_PACKED}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of JSON's pairs; two of one name would be two files in one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Takes a state apart into named tensors and a plain JSON tree.

    Args:
        state: Dictionaries (keys are texts or integers), lists, tuples, tensors, numbers, texts,
            truth values and None, nested at will.

    Raises:
        TypeError: The state holds something else.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _plain(state, "", tensors)


def unflatten(tensors: dict[str, Tensor], meta: Any) -> Any:
    """The state that `flatten` took apart.

    Raises:
        DamagedCheckpointError: It is none.
    """
    try:
        return _restored(tensors, meta)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{_NOT_PACKED}: {error}") from None


def _restored(tensors: dict[str, Tensor], meta: Any) -> Any:
    match meta:
        case list():
            return [_restored(tensors, item) for item in meta]
        case {"tensor": str(name), **rest} if not rest:
            return tensors[name]
        case {"tuple": list(items), **rest} if not rest:
            return tuple(_restored(tensors, item) for item in items)
        case {"dict": list(pairs), **rest} if not rest:
            return {key: _restored(tensors, item) for key, item in pairs}
        case dict():
            raise ValueError(f"found {', '.join(meta) or 'nothing'}, no kind of value")
    return meta


def _plain(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The JSON tree of a node, whose tensors go into `tensors` under their dotted paths.

    A dictionary becomes its pairs, because the keys of a JSON object are texts alone.
    """
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Tensor):
        assert name not in tensors, f"two tensors are called {name}"
        tensors[name] = node
        return {"tensor": name}
    prefix = f"{name}." if name else ""
    if isinstance(node, dict):
        return {"dict": [[key, _plain(node[key], f"{prefix}{key}", tensors)] for key in node]}
    if isinstance(node, list | tuple):
        items = [_plain(item, f"{prefix}{i}", tensors) for i, item in enumerate(node)]
        return {"tuple": items} if isinstance(node, tuple) else items
    raise TypeError(f"{name} is a {type(node).__name__}, expected a tensor or a plain value")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGITS // 2).hexdigest().encode()
