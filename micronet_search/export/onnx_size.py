"""What an ONNX file is made of, in bytes, beside the bytes that a score counts."""

from dataclasses import dataclass

import onnx

from micronet_search.scoring.cost import Cost


@dataclass(frozen=True)
class OnnxSize:
    """The bytes of an ONNX file, in three parts.

    Attributes:
        counted: The stored tensors when packed, as a score counts them.
        wider: What the file's tensors take beyond that: zeros that are stored, integers in a wider
            type, scales in single precision, and constants of the graph.
        graph: All else: nodes, names and metadata.
    """

    counted: int
    wider: int
    graph: int

    @property
    def total(self) -> int:
        """The size of the file."""
        return self.counted + self.wider + self.graph


def onnx_size(content: bytes, cost: Cost) -> OnnxSize:
    """Returns the parts of the ONNX file of a network with this measured cost."""
    tensors = onnx.load_model_from_string(content).graph.initializer
    stored, counted = sum(len(tensor.raw_data) for tensor in tensors), cost.storage_bytes
    return OnnxSize(counted, stored - counted, len(content) - stored)
