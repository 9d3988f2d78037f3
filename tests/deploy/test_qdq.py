"""The legality of Q and DQ: a legal graph has no findings, and each breach has its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.deploy.precision.qdq import findings, is_quantised, too_narrow


def quantised(
    *,
    channels: int = 16,
    zero: int = 0,
    axis: int = 0,
    scale: float = 0.5,
    int32_bias: bool = False,
    both: bool = True,
    opset: int = 18,
    low: int = TensorProto.INT8,
    computed: bool = False,
) -> onnx.ModelProto:
    """Build Q → DQ → Conv 1x1, its weight dequantised with one scale per channel."""
    kind = helper.tensor_dtype_to_np_dtype(low)
    constants: dict[str, Any] = {
        "scale": np.float32(scale),
        "zero": np.asarray(zero, kind),
        "weight": np.ones((channels, channels, 1, 1), kind),
        "scales": np.full(channels, 0.1, np.float32),
        "zeros": np.zeros(channels, kind),
        "bias": np.ones(channels, np.int32 if int32_bias else np.float32),
        "bias_scale": np.float32(0.1),
    }
    given = "scale_of_x" if computed else "scale"
    nodes = [helper.make_node("ReduceMax", ["x"], ["scale_of_x"], "max", keepdims=0)] if computed else []
    nodes += [
        helper.make_node("QuantizeLinear", ["x", given, "zero"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", given, "zero"], ["dq"], "dequantise"),
        helper.make_node("DequantizeLinear", ["weight", "scales", "zeros"], ["w"], "dequantise_weight", axis=axis),
    ]
    if int32_bias:
        nodes.append(helper.make_node("DequantizeLinear", ["bias", "bias_scale"], ["b"], "dequantise_bias"))
    operands = ["dq" if both else "x", "w", "b" if int32_bias else "bias"]
    nodes.append(helper.make_node("Conv", operands, ["y"], "conv"))
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["batch", channels, 4, 4]) for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def test_a_legal_model_has_no_findings() -> None:
    assert findings(quantised()) == ()
    assert findings(quantised(low=TensorProto.FLOAT8E4M3FN, opset=19)) == ()
    assert is_quantised(quantised())


@pytest.mark.parametrize(
    ("breach", "rule", "node", "says"),
    [
        ({"int32_bias": True}, "type", "dequantise_bias", "INT32, which TensorRT refuses"),
        ({"zero": 3}, "zero-point", "quantise", "symmetrically"),
        ({"axis": 1}, "axis", "dequantise_weight", "axis 1 of the weight of conv, not 0"),
        ({"scale": 0.0}, "scale", "quantise", "not positive and finite"),
        ({"scale": float("nan")}, "scale", "quantise", "not positive and finite"),
        ({"computed": True}, "scale", "quantise", "quantise statically"),
        ({"low": TensorProto.FLOAT8E4M3FN}, "opset", "quantise", "FP8 needs opset 19, and the model is of 18"),
    ],
)
def test_each_breach_is_found_and_fatal(breach: dict[str, Any], rule: str, node: str, says: str) -> None:
    [found, *_] = findings(quantised(**breach))
    assert (found.rule, found.node, found.fatal) == (rule, node, True)
    assert says in str(found)


@pytest.mark.parametrize(
    ("breach", "rule", "says"),
    [
        ({"channels": 8}, "narrow", "8 channels a group, under 16"),
        ({"both": False}, "half-quantised", "its input is not quantised"),
    ],
)
def test_what_is_merely_slow_is_not_fatal(breach: dict[str, Any], rule: str, says: str) -> None:
    [found] = findings(quantised(**breach))
    assert (found.rule, found.node, found.fatal) == (rule, "conv", False)
    assert says in found.text


def test_integers_are_read_by_a_dequantiser_alone() -> None:
    model = quantised()
    model.graph.node.append(helper.make_node("Shape", ["q"], ["shape"], "stranger"))
    [found] = findings(model)
    assert (found.rule, found.node) == ("pair", "quantise")


def test_fp16_scales_need_opset_19() -> None:
    model = quantised()
    [scale] = [tensor for tensor in model.graph.initializer if tensor.name == "scale"]
    scale.CopyFrom(numpy_helper.from_array(np.asarray(0.5, np.float16), "scale"))
    assert {found.rule for found in findings(model)} == {"opset"}


@pytest.mark.parametrize(
    ("op", "shape", "groups", "worth"),
    [
        ("Conv", (16, 16, 3, 3), 1, True),
        ("Conv", (16, 3, 3, 3), 1, False),
        ("Conv", (12, 32, 1, 1), 1, False),
        ("Conv", (32, 1, 3, 3), 32, True),
        ("Conv", (36, 1, 3, 3), 36, False),
        ("Conv", (32, 1, 1, 1), 32, False),
        ("Conv", (128, 4, 3, 3), 32, False),
        ("Gemm", (10, 64), 1, False),
        ("MatMul", (64, 64), 1, True),
    ],
)
def test_what_is_worth_quantising(op: str, shape: tuple[int, ...], groups: int, worth: bool) -> None:
    attributes: dict[str, Any] = {"group": groups} if op == "Conv" else {}
    assert (too_narrow(helper.make_node(op, ["x", "w"], ["y"], **attributes), shape) is None) == worth


def test_a_plain_model_is_not_quantised() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]> g (float[n] x) => (float[n] y) { y = Relu(x) }
    """)
    assert not is_quantised(model)
    assert findings(model) == ()
