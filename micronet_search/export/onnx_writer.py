"""An ONNX graph while it is written: nodes, initialisers and the opset that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from micronet_search.export.errors import ExportError
from micronet_search.network.precision import Plan

OPSET = 21
"""The first one with 4-bit integers and `DequantizeLinear` of them."""
OPSET_INT2 = 25
"""The first one with 2-bit integers."""

PRODUCER = "micronet-search"
"""What every file says that it was made by."""

_IMAGE, _LOGITS = "image", "logits"
_FLOATS = {torch.float16: TensorProto.FLOAT16, torch.float32: TensorProto.FLOAT}


def integer_type(bits: int) -> np.dtype[Any]:
    """The narrowest signed type that ONNX has for integers of a width, 8 bits at most."""
    assert 1 <= bits <= 8, bits
    return np.dtype(ml_dtypes.int2 if bits <= 2 else ml_dtypes.int4 if bits <= 4 else np.int8)


class GraphWriter:
    """Collects the nodes and the initialisers of one graph, in the order of computation.

    A value is named after the node that computes it, so that names lead back to the modules.
    """

    def __init__(self, compute: torch.dtype) -> None:
        """Starts an empty graph.

        Args:
            compute: What floating-point values are computed in: `float16` or `float32`.
        """
        self.compute = _FLOATS[compute]
        self.opset = OPSET
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Adds a node with one output.

        Returns:
            The name of its output, which is `name`.
        """
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def store(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """Adds an initialiser of the values' own type; one that is there already stays.

        Returns:
            `name`.
        """
        if values.dtype == ml_dtypes.int2:
            self.opset = OPSET_INT2
        self._initializers.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def constant(self, name: str, values: Tensor) -> str:
        """Adds an initialiser of the tensor's own precision, read in that of the graph.

        Args:
            name: Of the initialiser.
            values: Of half or single precision.

        Returns:
            The name of the value to compute with.
        """
        self.store(name, values.numpy())
        if _FLOATS[values.dtype] == self.compute:
            return name
        return self.add("Cast", [name], f"{name}.cast", to=self.compute)

    def model(
        self, image: tuple[int, int, int], classes: int, output: str, metadata: dict[str, str]
    ) -> onnx.ModelProto:
        """The finished model, checked.

        Args:
            image: Channels, height and width of the input `image`, which is uint8.
            classes: Width of the output `logits`, which is float32.
            output: The value that becomes the output.
            metadata: What stands in the file beside the graph.

        Raises:
            ExportError: The model is not valid.
        """
        # a node of its own, so that the last layer's value keeps its module's name
        last = "Identity" if self.compute == TensorProto.FLOAT else "Cast"
        attributes = {} if last == "Identity" else {"to": TensorProto.FLOAT}
        self.add(last, [output], _LOGITS, **attributes)
        pixels = helper.make_tensor_value_info(_IMAGE, TensorProto.UINT8, ["N", *image])
        pixels.type.denotation = "IMAGE"  # so that the metadata's `Image.` keys tell of it
        graph = helper.make_graph(
            self._nodes,
            "micronet",
            [pixels],
            [helper.make_tensor_value_info(_LOGITS, TensorProto.FLOAT, ["N", classes])],
            list(self._initializers.values()),
        )
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(
            graph,
            opset_imports=[opset],
            ir_version=helper.find_min_ir_version_for([opset]),
            producer_name=PRODUCER,
        )
        helper.set_model_props(model, metadata)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"the ONNX file is not valid: {error}") from error
        return model


@dataclass(frozen=True, eq=False)
class Context:
    """What the layers of one network are written from and into.

    Attributes:
        writer: Takes the nodes.
        tensors: The stored ones, by name.
        plan: The width of each layer.
    """

    writer: GraphWriter
    tensors: Mapping[str, Tensor]
    plan: Plan
