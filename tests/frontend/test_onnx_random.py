"""Random ONNX graphs over operators and operator sets: the import computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_graphs import difference

OPSETS = (9, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22)
PLAIN = "Relu Sigmoid Tanh Abs Softplus Elu LeakyRelu HardSigmoid Selu Identity Softsign ThresholdedRelu".split()
SIDE = 8


class Graph:
    """A graph under construction, whose values are [N, C, H, W]."""

    def __init__(self, draw: Any, opset: int) -> None:
        self.draw, self.opset, self.count = draw, opset, 0
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(draw(st.integers(0, 99)))
        self.values = [("x", 4, SIDE, SIDE)]

    def weight(self, *sizes: int) -> str:
        self.count += 1
        values = self.random.standard_normal(sizes).astype(np.float32) / max(1, int(np.prod(sizes[1:]))) ** 0.5
        self.weights.append(onnx.numpy_helper.from_array(values, f"w{self.count}"))
        return f"w{self.count}"

    def numbers(self, *values: int) -> str:
        self.count += 1
        self.weights.append(onnx.numpy_helper.from_array(np.array(values, np.int64), f"k{self.count}"))
        return f"k{self.count}"

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        self.count += 1
        made = onnx.helper.make_node(kind, inputs, [f"v{self.count}"], name=f"{kind}_{self.count}", **attributes)
        self.nodes.append(made)
        return f"v{self.count}"

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def step(self) -> None:
        name, c, h, w = self.values[-1]
        step = self.draw(st.sampled_from([self.plain, self.conv, self.pool, self.norm, self.mixed, self.moved]))
        self.values.append(step(name, c, h, w))

    def plain(self, name: str, c: int, h: int, w: int) -> tuple[str, int, int, int]:
        return self.node(self.draw(st.sampled_from(PLAIN)), [name]), c, h, w

    def conv(self, name: str, c: int, h: int, w: int) -> tuple[str, int, int, int]:
        group = c if self.draw(st.booleans()) else 1
        width, kernel = c if group > 1 else self.integer(1, 6), self.integer(1, 3)
        inputs = [name, self.weight(width, c // group, kernel, kernel)]
        inputs += [self.weight(width)] if self.draw(st.booleans()) else []
        mode = self.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
        return self.node("Conv", inputs, group=group, auto_pad=mode, kernel_shape=[kernel, kernel]), width, h, w

    def pool(self, name: str, c: int, h: int, w: int) -> tuple[str, int, int, int]:
        begins = [self.integer(0, 1), self.integer(0, 1)]
        pads, kernel = [*begins, *(1 - one if self.draw(st.booleans()) else one for one in begins)], [3, 3]
        kind = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        further = {"count_include_pad": self.integer(0, 1)} if kind == "AveragePool" else {}
        if min(h, w) < 3:
            return name, c, h, w
        found = self.node(kind, [name], kernel_shape=kernel, pads=pads, **further)
        return found, c, h + pads[0] + pads[2] - 2, w + pads[1] + pads[3] - 2

    def norm(self, name: str, c: int, h: int, w: int) -> tuple[str, int, int, int]:
        positive = self.weight(c)
        self.weights[-1].CopyFrom(
            onnx.numpy_helper.from_array(self.random.random(c).astype(np.float32) + 0.5, positive)
        )
        inputs = [name, self.weight(c), self.weight(c), self.weight(c), positive]
        return self.node("BatchNormalization", inputs), c, h, w

    def mixed(self, name: str, c: int, h: int, w: int) -> tuple[str, int, int, int]:
        """Join an earlier value of equal height and width."""
        equal = [one for one in self.values if one[2:] == (h, w)]
        other, width, _, _ = self.draw(st.sampled_from(equal))
        if width == c and self.draw(st.booleans()):
            return self.node(self.draw(st.sampled_from(["Add", "Mul", "Sub", "Max"])), [name, other]), c, h, w
        return self.node("Concat", [name, other], axis=1), c + width, h, w

    def moved(self, name: str, c: int, h: int, w: int) -> tuple[str, int, int, int]:
        kind = self.draw(st.sampled_from(["transpose", "slice", "reshape", "mean", "matmul"]))
        if kind == "transpose":
            return self.node("Transpose", [name], perm=[0, 1, 3, 2]), c, w, h
        if kind == "slice" and self.opset >= 10 and c > 1:
            at = self.integer(0, c - 2)
            return self.node("Slice", [name, *(self.numbers(one) for one in (at, c - 1, 1))]), c - 1 - at, h, w
        if kind == "reshape":
            flat = self.node("Reshape", [name, self.numbers(0, c, -1)])
            return self.node("Reshape", [flat, self.numbers(0, 0, w, h)]), c, w, h
        if kind == "matmul":
            width = self.integer(2, 5)
            return (
                self.node("Add", [self.node("MatMul", [name, self.weight(w, width)]), self.weight(width)]),
                c,
                h,
                width,
            )
        gate = self.node("Sigmoid", [self.node("GlobalAveragePool", [name])])
        return self.node("Mul", [name, gate]), c, h, w


@st.composite
def models(draw: Any) -> onnx.ModelProto:
    opset = draw(st.sampled_from(OPSETS))
    graph = Graph(draw, opset)
    for _ in range(draw(st.integers(1, 8))):
        graph.step()
    name, c, h, w = graph.values[-1]
    if name == "x":
        name = graph.node("Relu", ["x"])
    x = onnx.helper.make_tensor_value_info("x", 1, ["N", 4, SIDE, SIDE])
    y = onnx.helper.make_tensor_value_info(name, 1, ["N", c, h, w])
    inner = onnx.helper.make_graph(graph.nodes, "g", [x], [y], graph.weights)
    model = onnx.helper.make_model(inner, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(model=models())
def test_a_random_graph_computes_as_onnx_runtime(model: onnx.ModelProto) -> None:
    assert difference(model) < 1e-4
