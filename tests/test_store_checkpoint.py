import copy
import hashlib
import json
import math
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from micronet_search.store.checkpoint import (
    DamagedCheckpointError,
    flatten,
    pack,
    unflatten,
    unpack,
)

TYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int8,
    torch.uint8,
    torch.int64,
    torch.bool,
]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)], ids=str)
def test_tensors_come_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.randn(shape) * 50).to(dtype)
    found, meta = unpack(pack({"t": tensor}, None))

    assert found["t"].dtype == dtype
    assert found["t"].shape == shape
    assert torch.equal(found["t"], tensor)
    assert meta is None


def test_tensors_of_every_layout_come_back() -> None:
    base = torch.randn(2, 3, 4, 4)
    tensors = {
        "shared": base,
        "view": base[:, 1],
        "transposed": base.transpose(0, 3),
        "last": base.to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(base),
        "nan": torch.tensor([math.nan, -math.inf, -0.0]),
    }
    found, _ = unpack(pack(tensors, {}))

    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(_bits(found[name]), _bits(tensor)), name


def test_the_meta_comes_back() -> None:
    # The text is what a search for the checksum could fall for.
    text = '"state":"' + "0" * 64
    meta = {"epoch": 3, "lr": 0.1 + 0.2, "names": ["ü", None, True], text: text}
    tensors = {text: torch.ones(2), "state": torch.ones(1), "meta": torch.ones(3)}
    found, got = unpack(pack(tensors, meta))

    assert got == meta
    assert set(found) == set(tensors)


def test_a_checkpoint_is_a_safetensors_file() -> None:
    found = safetensors.torch.load(pack({"t": torch.arange(3)}, {"epoch": 1}))
    assert torch.equal(found["t"], torch.arange(3))


@pytest.fixture(scope="module")
def content() -> bytes:
    torch.manual_seed(0)
    return pack({"a": torch.randn(1000), "b": torch.arange(100)}, {"epoch": 3, "stage": "fit"})


def test_flipped_bytes_are_noticed(content: bytes) -> None:
    places = [*range(400), *range(400, len(content), 97), len(content) - 1]
    for i in places:
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[i] ^= flip
            with pytest.raises(DamagedCheckpointError, match="do not agree with its checksum"):
                unpack(bytes(damaged))


def test_cut_and_lengthened_files_are_noticed(content: bytes) -> None:
    for size in [0, 1, 7, 8, 9, *range(10, len(content), 97), len(content) - 1]:
        with pytest.raises(DamagedCheckpointError) as error:
            unpack(content[:size])
        assert "\n" not in str(error.value)
    with pytest.raises(DamagedCheckpointError):
        unpack(content + b"\0")


def test_a_foreign_safetensors_file_is_refused() -> None:
    with pytest.raises(DamagedCheckpointError):
        unpack(safetensors.torch.save({"a": torch.ones(3)}))


def test_any_state_comes_back() -> None:
    state = {
        "network": {"0.weight": torch.ones(2), "0.bias": torch.zeros(1)},
        0: [1, 2.5, (True, None, "x"), [], (), {}],
        "rng": {"cpu": torch.get_rng_state()},
        "inf": math.inf,
        "dict": {"tensor": "network", "tuple": [1]},
    }
    tensors, meta = flatten(state)
    found = unflatten(*unpack(pack(tensors, meta)))

    assert json.loads(json.dumps(meta)) == meta
    assert _same(found, state)
    assert list(tensors) == ["network.0.weight", "network.0.bias", "rng.cpu"]


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError, match=r"state\.0 is a set, expected a tensor or a plain value"):
        flatten({"state": {0: {1, 2}}})


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd, no momentum": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-3),
    "adam, amsgrad": lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-2), amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.8, 0.95)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_restored_optimizer_goes_on_bit_by_bit(name: str, steps: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    optimizer = _optimizer(name, network)
    images = torch.randn(6, 8, 3, 6, 6)
    for batch in images[:steps]:
        _step(network, optimizer, batch)

    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    content = pack(*flatten(state))
    assert _same(unflatten(*unpack(content)), state)
    again = copy.deepcopy(network)
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    other = _optimizer(name, again)
    found = unflatten(*unpack(content))
    again.load_state_dict(found["network"])
    other.load_state_dict(found["optimizer"])
    for batch in images[3:]:
        _step(network, optimizer, batch)
        _step(again, other, batch)

    assert _same(again.state_dict(), dict(network.state_dict()))
    assert _same(other.state_dict(), optimizer.state_dict())


def _optimizer(name: str, network: nn.Module) -> torch.optim.Optimizer:
    weights = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    return OPTIMIZERS[name]([{"params": weights}, {"params": rest, "weight_decay": 0.0}])


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    optimizer.zero_grad()
    network(images).square().mean().backward()
    optimizer.step()


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _same(found: Any, expected: Any) -> bool:
    """Whether two states agree in types and bits."""
    if isinstance(expected, Tensor):
        same_kind = found.dtype == expected.dtype and found.shape == expected.shape
        return same_kind and torch.equal(_bits(found), _bits(expected))
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(_same(found[k], expected[k]) for k in expected)
    if type(found) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return bool(found == expected)


def test_the_same_state_gives_the_same_bytes() -> None:
    tensors, meta = {"b": torch.ones(3), "a": torch.zeros(2)}, {"epoch": 3}
    assert pack(tensors, meta) == pack(tensors, meta)


# --- files that were made to harm: whoever makes one can make its checksum too ---


def forged(header: str, size: int | None = None) -> bytes:
    """A file whose checksum is right; the header has `DIGEST` where it goes."""
    text = header.replace("DIGEST", "0" * 64).encode()
    blank = (len(text) if size is None else size).to_bytes(8, "little") + text
    return blank.replace(b"0" * 64, hashlib.blake2b(blank, digest_size=32).hexdigest().encode(), 1)


def header(meta: str = "null", tensors: str = "") -> str:
    return '{"__metadata__":{"state":"DIGEST' + meta.replace('"', '\\"') + '"}' + tensors + "}"


def of(
    offsets: str, dtype: str = '"F32"', shape: str = "[1]", name: str = "a", more: str = ""
) -> str:
    return f',"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}'


FORGED = {
    "a petabyte": forged(header(), size=2**50),
    "the greatest size": forged(header(), size=2**64 - 1),
    "a long header": forged(header(), size=20 * 2**20),
    "deep header": forged('{"__metadata__":{"state":"DIGEST"},"a":' + "[" * 50_000),
    "deep and closed": forged(header(tensors=',"a":' + "[" * 50_000 + "]" * 50_000)),
    "deep tree": forged(header("[" * 50_000 + "]" * 50_000)),
    "deep objects": forged(header('{"a":' * 50_000 + "1" + "}" * 50_000)),
    "no json": forged(header("{")),
    "long number": forged(header("9" * 10_000)),
    "no metadata": forged('{"state":"DIGEST"}'),
    "metadata of a list": forged('{"__metadata__":["state"],"state":"DIGEST"}'),
    "two states": forged('{"__metadata__":{"state":"DIGESTnull","state":"x"}}'),
    "a list": forged('["state":"DIGEST"]'),
    "two of a name": forged(header(tensors=of("[0,4]") + of("[0,4]"))),
    "unknown type": forged(header(tensors=of("[0,4]", dtype='"F33"'))),
    "a number as type": forged(header(tensors=of("[0,4]", dtype="4"))),
    "negative offset": forged(header(tensors=of("[-4,0]"))),
    "offsets apart": forged(header(tensors=of("[4,8]"))),
    "offsets reversed": forged(header(tensors=of("[4,0]"))),
    "beyond the end": forged(header(tensors=of("[0,4000000000]", shape="[1000000000]"))),
    "overflowing shape": forged(header(tensors=of("[0,0]", shape=f"[{2**62},{2**62},4]"))),
    "overflowing offset": forged(header(tensors=of(f"[0,{2**70}]"))),
    "negative shape": forged(header(tensors=of("[0,4]", shape="[-1]"))),
    "a fraction as shape": forged(header(tensors=of("[0,4]", shape="[1.0]"))),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused_soon(name: str) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    with pytest.raises(DamagedCheckpointError) as error:
        unpack(FORGED[name])
    assert "do not agree with its checksum" not in str(error.value)
    assert "\n" not in str(error.value)
    assert time.process_time() - begun < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200 * 1024


def test_a_forged_file_can_be_right() -> None:
    tensors, meta = unpack(forged(header("[1]")))
    assert (tensors, meta) == ({}, [1])


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = {"tuple": [found]}
    return found


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"tensor": "b"},
        {"tensor": 3},
        {"tensor": ["a"]},
        {"tensor": "a", "tuple": []},
        {"set": [1]},
        {"tuple": 3},
        {"tuple": None},
        {"dict": 3},
        {"dict": {"a": 1}},
        {"dict": [1]},
        {"dict": [[1]]},
        {"dict": [["a", 1, 2]]},
        {"dict": [[[1], 2]]},
        {"dict": [[{"a": 1}, 2]]},
        [[{"tuple": [{"list": []}]}]],
        nested(5_000),
    ],
)
def test_a_tree_that_flatten_does_not_make(meta: Any) -> None:
    with pytest.raises(DamagedCheckpointError, match="the checkpoint is damaged, expected"):
        unflatten({"a": torch.ones(1)}, meta)
