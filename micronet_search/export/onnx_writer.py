"""An ONNX graph while it is written: nodes, initialisers and the opset that they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from micronet_search.export import ExportError
from micronet_search.network.precision import Plan
from micronet_search.network.tensors import Role, tensor_name, tensors_of

# The first opsets with integers of 4 bits and of 2, and `DequantizeLinear` of them.
OPSET, OPSET_INT2 = 21, 25

_FLOATS = {torch.float16: TensorProto.FLOAT16, torch.float32: TensorProto.FLOAT}


def integer_type(bits: int) -> np.dtype[Any]:
    """Returns the narrowest signed type that ONNX has for integers of 1 to 8 bits."""
    assert 1 <= bits <= 8, bits
    return np.dtype(ml_dtypes.int2 if bits <= 2 else ml_dtypes.int4 if bits <= 4 else np.int8)


class GraphWriter:
    """Collects the nodes and the initialisers of one network, in the order of computation.

    A value is named after the node that computes it, so that names lead back to the modules.
    """

    def __init__(self, compute: torch.dtype, tensors: Mapping[str, Tensor], plan: Plan) -> None:
        """Starts the graph of a network with these stored tensors, computing in this type."""
        self.compute = _FLOATS[compute]
        self.plan = plan
        self._tensors = tensors
        self._opset = OPSET
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Adds a node, and returns the name of its one output, which is `name`."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def store(self, name: str, values: Any) -> str:
        """Adds an array as an initialiser of its own type, unless `name` exists; returns `name`."""
        if values.dtype == ml_dtypes.int2:
            self._opset = OPSET_INT2
        self._initializers.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def tensors_of(self, layer: str) -> dict[Role, Tensor]:
        """Returns the stored tensors of a layer."""
        return tensors_of(layer, self._tensors)

    def store_tensor(self, layer: str, role: Role, values: Any) -> str:
        """Adds values under the name of a layer's stored tensor, and returns the name."""
        return self.store(tensor_name(layer, role), values)

    def constant(self, layer: str, role: Role, *shape: int) -> str:
        """Adds a stored float tensor in a shape, and returns its value in the graph's precision."""
        values = self.tensors_of(layer)[role]
        name = self.store_tensor(layer, role, (values.view(shape) if shape else values).numpy())
        if _FLOATS[values.dtype] == self.compute:
            return name
        return self.add("Cast", [name], f"{name}.cast", to=self.compute)

    def model(
        self, image: tuple[int, int, int], classes: int, output: str, metadata: dict[str, str]
    ) -> onnx.ModelProto:
        """Returns the finished model, with a uint8 input `image` and a float32 output `logits`.

        The image is channels, height and width; the value `output` becomes the logits.
        """
        # a node of its own, so that the last layer's value keeps its module's name
        cast = {} if self.compute == TensorProto.FLOAT else {"to": TensorProto.FLOAT}
        self.add("Cast" if cast else "Identity", [output], "logits", **cast)
        pixels = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *image])
        pixels.type.denotation = "IMAGE"  # so that the metadata's `Image.` keys tell of it
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
        initializers = list(self._initializers.values())
        graph = helper.make_graph(self._nodes, "micronet", [pixels], [logits], initializers)
        opsets = [helper.make_opsetid("", self._opset)]
        version = helper.find_min_ir_version_for(opsets)
        options = {"opset_imports": opsets, "producer_name": "micronet-search"}
        model = helper.make_model(graph, ir_version=version, **options)
        helper.set_model_props(model, metadata)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"the ONNX file is not valid: {error}") from error
        return model
