"""An ONNX graph while it is written, and how weights and inputs of few bits are written in it."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from micronet_search.compression.quantizers import (
    BETWEEN_STEPS,
    SMALLEST_SCALE,
    DynamicInputQuantizer,
    InputQuantizer,
)
from micronet_search.network.precision import Plan
from micronet_search.network.tensors import Role, tensor_name, tensors_of
from micronet_search.runtime import OPSET_NEWEST, OPSET_OLDEST, ExportError
from micronet_search.scoring.graphs.values import BITS

# The first opsets with all operators, with axes of `ReduceMax` as an input, and with
# `DequantizeLinear` of integers of 4 bits and of 2.
OPSET_AXES, OPSET_INT4, OPSET_INT2 = 18, 21, 25

_FLOATS = {torch.float16: TensorProto.FLOAT16, torch.float32: TensorProto.FLOAT}


def _integer_type(bits: int, opset: int) -> tuple[np.dtype[Any], int]:
    """Returns the narrowest signed type that an opset has for integers of 1 to 8 bits, its bits."""
    assert 1 <= bits <= 8, bits
    if bits <= 2 and opset >= OPSET_INT2:
        return np.dtype(ml_dtypes.int2), 2
    if bits <= 4 and opset >= OPSET_INT4:
        return np.dtype(ml_dtypes.int4), 4
    return np.dtype(np.int8), 8


class GraphWriter:
    """Collects the nodes and initialisers of a network, in the order of computation.

    A value is named after the node that computes it, so that names lead back to the modules.
    """

    def __init__(
        self,
        compute: torch.dtype,
        tensors: Mapping[str, Tensor],
        plan: Plan,
        newest: int = OPSET_NEWEST,
    ) -> None:
        """Starts the graph of a network with these stored tensors, computing in this type.

        `newest` is the newest opset that it may use.
        """
        assert OPSET_OLDEST <= newest <= OPSET_NEWEST, newest
        self.compute = _FLOATS[compute]
        self.plan = plan
        self.newest = newest
        self._tensors = tensors
        self._opset = min(newest, OPSET_INT4)
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Adds a node, and returns the name of its one output, which is `name`."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def note(self, key: str, value: str) -> None:
        """Puts a text into the metadata of the node that was added last.

        Where nodes have no metadata yet, it goes into the documentation of the node.
        """
        if self.newest >= OPSET_INT4:  # and version 10 of the format
            self._nodes[-1].metadata_props.add(key=key, value=value)
        else:
            self._nodes[-1].doc_string = f"{key}={value}"

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


def write_weight(writer: GraphWriter, name: str) -> str:
    """Adds the weights of a layer; integers are scaled in each output channel.

    ONNX has no type of 1, 3, 5, 6 and 7 bits, and older opsets none below 8, so the node that
    scales the integers tells a width that is not that of their type.
    """
    precision, tensors = writer.plan.layers[name], writer.tensors_of(name)
    if not precision.scales_weights:
        return writer.constant(name, "weight")
    bits = precision.weight_bits
    kind, size = _integer_type(bits, writer.newest)
    integers = tensors["weight"].numpy().astype(kind)
    # the output has the type of the scale
    scale = tensors["weight_scale"].float().numpy()
    stored = writer.store_tensor(name, "weight", integers)
    operands = [stored, writer.store_tensor(name, "weight_scale", scale)]
    found = writer.add("DequantizeLinear", operands, f"{stored}.dequantize", axis=0)
    if bits != size:
        writer.note(BITS, str(bits))
    return found


def write_input(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    """Adds the rounding of a layer's input as its quantizer has it, and returns the value."""
    precision = writer.plan.layers[name]
    if precision.scales_input:
        return (_dynamic if precision.dynamic else _static)(writer, name, module, source)
    if precision.activation_bits != 16 or writer.compute == TensorProto.FLOAT16:
        return source
    half = writer.add("Cast", [source], f"{name}.input.half", to=TensorProto.FLOAT16)
    return writer.add("Cast", [half], f"{name}.input", to=writer.compute)


def _static(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    """Adds a `QuantizeLinear` and a `DequantizeLinear`, with a `Clip` to a width below 8 bits.

    Between quantized values, ONNX Runtime would round weights that are no integers to 8 bits; the
    same clip after the rounding, not before it, is what stops it.
    """
    quantizer, layers = module.get_submodule("input_quantizer"), writer.plan.layers
    assert isinstance(quantizer, InputQuantizer)
    scale = writer.tensors_of(name)["input_scale"].float().numpy()[0]

    def least() -> str:
        return writer.store(f"{name}.input_low", quantizer.low * scale)

    def clip(value: str) -> str:
        limits = [least(), writer.store(f"{name}.input_high", quantizer.high * scale)]
        return writer.add("Clip", [value, *limits], f"{name}.input.clip")

    is_product = source in layers and layers[source].scales_weights
    if is_product and "bias" not in writer.tensors_of(source):
        # The product of integer weights, rounded as it is, would become a `QLinearConv` in ONNX
        # Runtime, whose sums saturate at 16 bits on processors that multiply pairs of bytes alone.
        # `Max` stops it; `Clip` would be removed.
        source = writer.add("Max", [source, least()], f"{name}.input.bounded")
    if layers[name].scales_weights and layers[name].activation_bits < 8:
        source = clip(source)
    kind = np.dtype(np.int8 if quantizer.low < 0 else np.uint8)
    zero = writer.store(f"zero.{kind.name}", np.zeros((), kind))
    step = writer.store(f"{name}.input_step", scale / np.float32(BETWEEN_STEPS))
    integers = writer.add("QuantizeLinear", [source, step, zero], f"{name}.input.quantize")
    stored = writer.store_tensor(name, "input_scale", scale)
    rounded = writer.add("DequantizeLinear", [integers, stored, zero], f"{name}.input.dequantize")
    return rounded if layers[name].scales_weights else clip(rounded)


def _dynamic(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    """Spells out the rounding by the scale of each image, which its largest value sets.

    Clipping would change nothing, for no value is beyond the largest. `DynamicQuantizeLinear` has
    one scale for a whole batch, and 8 bits alone.
    """
    quantizer, size = module.get_submodule("input_quantizer"), source
    assert isinstance(quantizer, DynamicInputQuantizer)
    axes = (1, 2, 3) if isinstance(module, nn.Conv2d) else (1,)
    if quantizer.low < 0:
        size = writer.add("Abs", [source], f"{name}.input.size")
    over, inputs = {"axes": axes}, [size]
    if writer.newest >= OPSET_AXES:
        over, inputs = {}, [size, writer.store(f"axes.{len(axes)}", np.array(axes, np.int64))]
    largest = writer.add("ReduceMax", inputs, f"{name}.input.largest", keepdims=1, **over)
    reach = writer.store(f"reach.{quantizer.high}", np.array(quantizer.reach, np.float32))
    unbounded = writer.add("Div", [largest, reach], f"{name}.input.unbounded")
    smallest = writer.store("smallest_scale", np.array(SMALLEST_SCALE, np.float32))
    scale = writer.add("Max", [unbounded, smallest], f"{name}.input.scale")
    parts = writer.add("Div", [source, scale], f"{name}.input.parts")
    integers = writer.add("Round", [parts], f"{name}.input.integers")
    return writer.add("Mul", [integers, scale], f"{name}.input")
