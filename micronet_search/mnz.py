"""Reads a packed network, `model.mnz`, and runs it. It needs NumPy, and no other file.

    model = mnz.load("model.mnz")
    logits = model(images)  # uint8 (N, channels, height, width), 0 to 255 -> float32 (N, classes)

`python mnz.py model.mnz images.npy` prints the class of each image. A file is measured before
anything is made of it; one that is damaged is a ValueError. `docs/packed.md` has the format.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
MAGIC = b"MNZ\x01"  # the last byte is the version
# magic, bits of the rest, mean, scale, channels, height and width, bytes of the graph
HEAD = struct.Struct("<4sBBf3HI")
ROW = 14  # the numbers of a node in the graph, of 16 bits each
ROLES = ("weight", "bias", "weight_scale", "input_scale")
WIDTHS = {0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32}
SIGNED, DYNAMIC = 1, 2  # flags of a layer's input
SMALLEST_SCALE, BETWEEN_STEPS = np.float32(2.0**-14), np.float32(1 - 2.0**-12)
MAX_BYTES, MAX_GRAPH, MAX_ELEMENTS = 2**28, 2**20, 2**26
MAX_VALUES, MAX_WORK = 2**27, 2**36  # of one image


class Node:
    """An operation, the values that it reads, and the `shape` of the one that it puts out.

    Value 0 is the image, value n that of the n-th node. `stored` has the shape and the bits of each
    of its `tensors`, by their roles; those of 8 bits and fewer are int8. Convolutions and linear
    layers have `weights`, and round their input to integers of `input_bits`, if these are up to 8.
    """

    def __init__(self, row: list[int], values: list[Array]) -> None:
        """Reads the row of a node, given the values before it."""
        code, *back, self.channels, self.kernel, self.stride, self.padding, self.groups = row[:8]
        *bits, self.input_bits, flags = row[8:]
        _expect(code < len(OPERATIONS), "operation", code, f"at most {len(OPERATIONS) - 1}")
        self.operation, self.run = list(OPERATIONS.items())[code]
        back = back[: 2 if self.operation in ("add", "join", "scale") else 1]
        _expect(0 < min(back) <= max(back) <= len(values), "sources", back, f"1 to {len(values)}")
        self.sources = [len(values) - each for each in back]
        self.shape, groups, self.macs = values[self.sources[0]].shape[1:], self.groups, 0
        sound = min(*row[3:6], groups) > 0 and self.padding <= self.kernel // 2
        sound = sound and self.shape[0] % groups == self.channels % groups == 0
        _expect(sound, "window and groups", row[3:8], f"ones for {self.shape[0]} channels")
        axes = {"conv": 4, "linear": 2, "norm": 1}.get(self.operation, 0)
        sound = {*row[8:13]} <= WIDTHS and (axes < 2 or min(bits[0], self.input_bits) > 0)
        _expect(sound, "bits of tensors and input", row[8:13], "1 to 8, 16 or 32, or 0 for none")
        weight = self.channels, self.shape[0] // groups, self.kernel, self.kernel
        stored = zip(ROLES, (weight[:axes], weight[:1], weight[:1], (1,)), bits, strict=True)
        self.stored = {role: (shape, width) for role, shape, width in stored if axes and width}
        self.weights, self.dynamic = math.prod(weight) * (axes > 1), flags & DYNAMIC > 0
        self.low: int = -(2**self.input_bits // 2) * (flags & SIGNED)
        self.high: int = self.low + 2**self.input_bits - 1

    def read(self, stream: _Stream, image_scale: float) -> None:
        """Reads the tensors, and makes float32 arrays of them, or float64 of large integers.

        Sums of integers, in any order, are exact in float32 below 2^24, and in float64 below 2^53.
        """
        self.tensors = {role: stream.tensor(*self.stored[role], role) for role in self.stored}
        self.ready = {"input_scale": np.full((1, 1, 1), image_scale, np.float32)}
        self.ready |= {r: t.astype(np.float32).reshape(-1, 1, 1) for r, t in self.tensors.items()}
        if not self.dynamic and "input_scale" not in self.tensors:  # it reads the image as it is
            self.low, self.high = -255, 255
        if self.weights:
            weight = self.ready["weight"].reshape(self.groups, self.channels // self.groups, -1)
            largest = np.abs(weight).sum(2, np.float64).max() * max(-self.low, self.high)
            integers = max(self.stored["weight"][1], self.input_bits) <= 8
            self.ready["weight"] = weight.astype("d" if integers and largest >= 2**24 else "f")


class Model:
    """A network: its `nodes` in the order of computation, the last of which puts out the logits."""

    def __init__(self, content: bytes) -> None:
        """Reads the content of a packed file."""
        least, size, body = HEAD.size + 4, len(content), content[HEAD.size : -4]
        _expect(content[:4] == MAGIC, "magic and version", content[:4], MAGIC)
        _expect(least <= size <= MAX_BYTES, "bytes", size, f"{least} to {MAX_BYTES}")
        _, self.rest_bits, self.mean, self.scale, *image, end = HEAD.unpack_from(content)
        found, told = zlib.crc32(content[:-4]), int.from_bytes(content[-4:], "little")
        _expect(found == told, "checksum", found, f"{told}: the file is damaged or cut short")
        sound = self.rest_bits in (16, 32) and 0 < self.scale < math.inf and all(image)
        _expect(sound, "head", (self.rest_bits, self.scale, *image), "16 or 32, and positive ones")
        unzip = zlib.decompressobj()
        try:
            graph = unzip.decompress(body[:end], MAX_GRAPH)
        except zlib.error as error:
            raise ValueError(f"graph: found {error}, expected zlib's format") from None
        sound = unzip.eof and not unzip.unused_data and graph and len(graph) % (2 * ROW) == 0
        _expect(sound, "bytes of the graph", len(graph), f"rows of {2 * ROW}, up to {MAX_GRAPH}")
        self.image, self.nodes = tuple(image), list[Node]()
        self._read(np.frombuffer(graph, "<u2").reshape(-1, ROW).tolist(), _Stream(body[end:]))
        self.classes = self.nodes[-1].shape[0]

    @np.errstate(all="ignore")
    def _read(self, rows: list[list[int]], stream: _Stream) -> None:
        """Reads the nodes, and runs each of them on no image, which tells its shape."""
        values = [np.zeros((0, *self.image), np.float32)]
        elements, work, self._size = 0, 0, math.prod(self.image)
        for number, row in enumerate(rows, 1):
            try:
                self.nodes.append(node := Node(row, values))
                elements += sum(math.prod(shape) for shape, _ in node.stored.values())
                _expect(elements <= MAX_ELEMENTS, "elements", elements, f"at most {MAX_ELEMENTS}")
                node.read(stream, self.scale)
                values.append(node.run(node, *[values[source] for source in node.sources]))
                node.shape = values[-1].shape[1:]
                node.macs = node.weights * math.prod(node.shape[1:])
                # the windows of its input may have 64 bits
                self._size += math.prod(node.shape) + 2 * node.macs * node.groups // node.channels
                _expect(self._size <= MAX_VALUES, "values", self._size, f"up to {MAX_VALUES}")
                work += max(node.macs, math.prod(node.shape) * node.kernel**2)
                _expect(work <= MAX_WORK, "operations", work, f"up to {MAX_WORK}")
            except ValueError as error:
                raise ValueError(f"node {number}: {error}") from None
        _expect(node.shape[1:] == (1, 1), "shape of the logits", node.shape, "height and width 1")
        _expect(stream.left < 8, "bits left of the tensors", stream.left, "less than a byte")

    @np.errstate(all="ignore")
    def __call__(self, images: Array) -> Array:
        """Computes float32 logits (N, classes) from uint8 images (N, C, H, W)."""
        found, expected = (str(images.dtype), *images.shape[1:]), ("uint8", *self.image)
        _expect(found == expected, "type and shape of an image", found, expected)
        logits, step = np.zeros((len(images), self.classes), "f"), max(1, 2**24 // self._size)
        for at in range(0, len(images), step):
            part = images[at : at + step].astype(np.float32)
            values = [(part - np.float32(self.mean)) * np.float32(self.scale)]
            for node in self.nodes:
                values.append(node.run(node, *[values[source] for source in node.sources]))
            logits[at : at + step] = values[-1][:, :, 0, 0]
        return logits


class _Stream:
    """The tensors, bit by bit, the lowest of each byte first."""

    def __init__(self, content: bytes) -> None:
        self.bytes, self.at, self.left = np.frombuffer(content, np.uint8), 0, 8 * len(content)

    def take(self, count: int, width: int, what: str) -> Array:
        """Returns the next bits, uint8 (count, width)."""
        first, needed = self.at, count * width
        _expect(needed <= self.left, f"bits for the {what}", self.left, f"at least {needed}")
        self.at, self.left = first + needed, self.left - needed
        bits = np.unpackbits(self.bytes[first // 8 : -(-self.at // 8)], bitorder="little")
        return bits[first % 8 :][:needed].reshape(count, width)

    def tensor(self, shape: tuple[int, ...], bits: int, what: str) -> Array:
        """Returns the next tensor: all of its elements, or a mask and those that are not zero."""
        kept = np.ones(math.prod(shape), bool)
        if self.take(1, 1, what).any():
            kept = self.take(kept.size, 1, what)[:, 0] > 0
        packed = np.packbits(self.take(int(kept.sum()), bits, what), axis=1, bitorder="little")
        if bits > 8:
            found = packed.view(f"<f{bits // 8}")[:, 0]
            _expect(np.isfinite(found).all(), f"values of the {what}", "infinity", "finite ones")
        else:
            found = ((packed[:, 0] ^ (sign := 1 << (bits - 1))) - sign).view(np.int8)
            found = 2 * found + 1 if bits == 1 else found  # 1 or -1
        values = np.zeros(kept.size, found.dtype)
        values[kept] = found
        return values.reshape(shape)


def _expect(right: object, what: str, found: object, expected: object) -> None:
    if not right:
        raise ValueError(f"{what}: found {found}, expected {expected}")


def _rounded(node: Node, value: Array) -> tuple[Array, Array]:
    """Rounds the input of a layer, and returns it as multiples of a scale, and the scale."""
    if node.input_bits > 8:
        return value.astype(f"f{node.input_bits // 8}"), np.ones(1, np.float32)
    scale = np.maximum(node.ready["input_scale"], SMALLEST_SCALE)
    if node.dynamic:
        largest = (np.abs(value) if node.low else value).max((1, 2, 3), keepdims=True)
        scale = np.maximum(largest / np.float32(0.999 * node.high), SMALLEST_SCALE)
    parts = value / scale if node.dynamic else value * BETWEEN_STEPS * (1 / scale)
    return np.rint(parts, out=parts).clip(node.low, node.high, out=parts), scale


def _windows(node: Node, value: Array) -> Array:
    sides = [(0, 0), (0, 0), *[(node.padding, node.padding)] * 2]
    padded, window = np.pad(value, sides) if node.padding else value, (node.kernel, node.kernel)
    found: Array = np.lib.stride_tricks.sliding_window_view(padded, window, (2, 3))
    return found[:, :, :: node.stride, :: node.stride]


def _convolve(node: Node, value: Array) -> Array:
    """Multiplies the weights by the windows of the input, a column for each pixel."""
    weight, (parts, scale) = node.ready["weight"], _rounded(node, value)
    windows = _windows(node, parts.astype(weight.dtype, copy=False)).transpose(0, 1, 4, 5, 2, 3)
    depth, pixels = math.prod(windows.shape[1:4]) // node.groups, windows.shape[4:]
    columns = windows.reshape(len(value), node.groups, depth, math.prod(pixels))
    product = (weight @ columns).reshape(len(value), node.channels, *pixels)
    product *= scale * node.ready.get("weight_scale", 1)
    return (product + node.ready.get("bias", 0)).astype(np.float32, copy=False)


OPERATIONS: dict[str, Callable[..., Array]] = {  # in the order of their codes
    "conv": _convolve,
    "linear": _convolve,
    "norm": lambda node, value: value * node.ready.get("weight", 1) + node.ready.get("bias", 0),
    "relu": lambda node, value: value.clip(0),
    "silu": lambda node, value: value / (1 + np.exp(-value)),
    "hard-swish": lambda node, value: value * (value + 3).clip(0, 6) / 6,
    "sigmoid": lambda node, value: 1 / (1 + np.exp(-value)),
    "hard-sigmoid": lambda node, value: (value + 3).clip(0, 6) / 6,
    "average-pool": lambda node, value: _windows(node, value).mean((4, 5)),
    "global-mean": lambda node, value: value.mean((2, 3), keepdims=True),
    "add": lambda node, value, other: value + other,
    "join": lambda node, *values: np.concatenate(values, 1),
    "scale": lambda node, value, other: value * other,
}


def load(source: str | Path | bytes) -> Model:
    """Reads a packed file, by its path or content; one that is none or damaged is a ValueError."""
    if isinstance(source, bytes):
        return Model(source)
    try:
        _expect(Path(source).is_file(), "path", "no file", "a packed network")
        size = Path(source).stat().st_size
        _expect(size <= MAX_BYTES, "bytes", size, f"at most {MAX_BYTES}")
        return Model(Path(source).read_bytes())
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python mnz.py model.mnz images.npy")
    try:
        pixels = np.lib.format.open_memmap(sys.argv[2], mode="r")
        print(*load(sys.argv[1])(pixels).argmax(1), sep="\n")
    except (ValueError, OSError) as problem:
        sys.exit(f"error: {problem}")
