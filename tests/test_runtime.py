"""What a network takes in ONNX Runtime."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exports import DIGITS, RESNET, initializers, random_shipped, widths
from onnx import TensorProto, helper, numpy_helper

from micronet_search.runtime import ExportError, onnx_model
from micronet_search.runtime import probe as probing
from micronet_search.runtime.latency import in_floats, measure
from micronet_search.runtime.probe import probe


def product(side: int) -> bytes:
    """An image times a matrix of so many rows and columns, ten times."""
    weights = numpy_helper.from_array(np.full((side, side), 1 / side, np.float32), "weights")
    nodes = [helper.make_node("Cast", ["image"], ["0"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", [f"{n}", "weights"], [f"{n + 1}"]) for n in range(10)]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 1, 1, side])
    logits = helper.make_tensor_value_info("10", TensorProto.FLOAT, ["N", 1, 1, side])
    graph = helper.make_graph(nodes, "product", [image], [logits], [weights])
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(graph, ir_version=10, opset_imports=[opset])
    return bytes(model.SerializeToString())


def test_more_work_takes_longer_and_more_memory() -> None:
    small = probe(product(16), (1, 1, 16), (1, 4096))
    large = probe(product(2048), (1, 1, 2048), (1,))["1"]
    assert small.keys() == {"1", "4096"}
    assert small["4096"]["latency_ms"] > small["1"]["latency_ms"]
    # 10 * 2048^2 MACs for 10 * 16^2, and 16 MiB of weights that are read each time
    assert large["latency_ms"] > 10 * small["1"]["latency_ms"]
    assert large["memory_bytes"] > small["1"]["memory_bytes"] + 8 * 2**20


def test_a_file_that_does_not_run_is_one_line() -> None:
    with pytest.raises(
        ExportError, match=r"^ONNX Runtime could not be timed: .*protobuf"
    ) as caught:
        probe(b"no model", (1, 8, 8), (1,))
    assert "\n" not in str(caught.value)


INTERRUPTED = """
import os, signal, sys, threading
from micronet_search.runtime.probe import probe

seen = []
signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
threading.Timer(0.1, os.killpg, (0, signal.SIGINT)).start()
found = probe(sys.stdin.buffer.read(), (1, 1, 16), (1,))
assert found["1"]["latency_ms"] > 0
assert seen == [signal.SIGINT]
"""


def test_a_pause_of_the_study_does_not_end_a_measurement() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    subprocess.run(command, input=product(16), start_new_session=True, check=True)


@pytest.mark.parametrize(("seconds", "calls"), [(0.015, 2 + 5 * 2), (1.0, 1 + 5), (6.0, 1 + 1)])
def test_a_slow_network_is_timed_once(
    monkeypatch: pytest.MonkeyPatch, seconds: float, calls: int
) -> None:
    begun = list[float]()
    monkeypatch.setattr("time.process_time", lambda: seconds * len(begun))
    assert probing._latency(lambda: begun.append(0.0)) == pytest.approx(1000 * seconds)
    assert len(begun) == calls


def test_a_system_that_does_not_tell_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "VmSize:\t 12 kB\nVmRSS:\t  34 kB\n")
    assert probing._memory("VmRSS") == 34 * 1024
    assert probing._memory("VmHWM") is None  # as in gVisor


def test_a_network_is_measured_beside_itself_in_floats() -> None:
    shipped = random_shipped(widths(2, 4), DIGITS, RESNET)
    content = onnx_model.write(shipped, {})
    found = measure(shipped, content)
    own = {"latency_ms", "latency_256_ms", "memory_bytes", "memory_256_bytes", "onnx_bytes"}
    assert found.keys() == own | {f"float_{name}" for name in own}
    assert all(value > 0 for value in found.values())
    assert found["onnx_bytes"] == len(content)
    plain = onnx_model.write(in_floats(shipped), {})
    assert found["float_onnx_bytes"] == len(plain)
    floats = initializers(plain)
    assert {tensor.data_type for tensor in floats.values()} == {TensorProto.FLOAT}
    weights = {n: t.dims for n, t in initializers(content).items() if n.endswith(".weight")}
    assert weights
    assert {name: floats[name].dims for name in weights} == weights
