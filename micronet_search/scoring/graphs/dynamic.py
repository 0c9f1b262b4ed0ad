"""Ranges that are found while an image passes, spelt out as the exporter of this package does."""

from onnx import NodeProto, numpy_helper

from micronet_search.scoring.graphs.graph import Graph, width
from micronet_search.scoring.graphs.values import Value, levels_to_bits


def dynamic_ranges(graph: Graph) -> dict[str, Value]:
    """Finds `round(x / s) * s` with `s = max(largest(x) / reach, smallest)`, and its width.

    Returns what is known of the value that comes out, by its name, and of those on the way to it.
    """
    found: dict[str, Value] = {}
    for node in graph.nodes:
        if node.op_type == "Mul":
            found |= _range(graph, node)
    return found


def _range(graph: Graph, product: NodeProto) -> dict[str, Value]:
    rounding = _maker(graph, product, 0, "Round")
    parts = rounding and _maker(graph, rounding, 0, "Div")
    scale = parts and _maker(graph, parts, 1, "Max")
    unbounded = scale and _maker(graph, scale, 0, "Div")
    largest = unbounded and _maker(graph, unbounded, 0, "ReduceMax")
    if not (rounding and parts and scale and unbounded and largest):
        return {}
    size = _maker(graph, largest, 0, "Abs")
    reach = graph.tensors.get(unbounded.input[1])
    if scale.output[0] != product.input[1] or reach is None or reach.dims:
        return {}
    if parts.input[0] != (size or largest).input[0]:
        return {}
    # the largest value is a little less than the largest integer, to which it is rounded
    high = round(float(numpy_helper.to_array(reach)))
    bits = levels_to_bits(-high if size else 0, high)
    way = (rounding, parts, scale, unbounded, largest, *([size] if size else []))
    found = {name: Value(width(graph.kinds[name])) for node in way for name in node.output}
    return {**found, product.output[0]: Value(bits, quantized=True)}


def _maker(graph: Graph, node: NodeProto, place: int, op_type: str) -> NodeProto | None:
    maker = graph.makers.get(node.input[place]) if len(node.input) > place else None
    return maker if maker is not None and maker.op_type == op_type else None
