"""`prunec lint`: channels against what engines truly do, ranges, shapes, Q and DQ; and its exit codes."""

from __future__ import annotations

import importlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import command
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import shared_nets
import torch
from conftest import needs_shared
from onnx import numpy_helper
from onnx_nets import demo_pair
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.cost.hardware import TARGETS, DeployTarget, target_of
from prunec.cost.macs import total_macs
from prunec.data.images import as_images
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.onnx.layers import network_of
from prunec.errors import SpecError
from prunec.frontend.capture import capture
from prunec.lint import alignment, dynamic_shapes, half_range
from prunec.lint.check import check
from prunec.lint.findings import Finding


def chain(inner: int, reads: int = 64, groups: int = 1) -> onnx.ModelProto:
    """Convolutions reads → inner → 64, 3x3 at 8x8; the second may have groups."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[1, {reads}, 8, 8] x) => (float[1, 64, 8, 8] y) {{
            a = Conv<pads = [1, 1, 1, 1]>(x, first_w)
            b = Relu(a)
            y = Conv<pads = [1, 1, 1, 1], group = {groups}>(b, second_w)
        }}
    """)
    rng = np.random.default_rng(0)
    for name, shape in (("first", (inner, reads, 3, 3)), ("second", (64, inner // groups, 3, 3))):
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, f"{name}_w"))
    model.graph.node[0].name, model.graph.node[2].name = "first", "second"
    return model


def graph(text: str, **constants: object) -> onnx.ModelProto:
    """A graph from text, with constants, nodes named after what they make."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def said(findings: object) -> list[tuple[str, str]]:
    return [(one.level, one.node) for one in findings if isinstance(one, Finding)]  # type: ignore[attr-defined]


# What the targets like


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda one: one.name)
def test_what_a_target_likes_costs_nothing_and_more_channels_never_cost_less(target: DeployTarget) -> None:
    assert target.likes % target.granule == target.likes % target.block == 0
    for channels in range(target.likes, 200, target.likes):
        assert target.suits(channels)
        assert (target.cost(channels, channels), target.falls(channels, channels)) == (1.0, False)
        assert target.below(channels) == channels == target.above(channels)
    paid = [round(makes * target.cost(64, makes), 6) for makes in range(1, 200)]
    assert paid == sorted(paid)
    assert all(target.below(n) <= max(n, target.likes) and n <= target.above(n) for n in range(1, 200))


def test_the_measured_staircases() -> None:
    avx512, avx2, rtx = (TARGETS[name] for name in ("ort-avx512", "ort-avx2", "rtx-fp16"))
    assert [avx512.padded(n) for n in (40, 48, 49, 64)] == [48, 48, 64, 64]
    assert [avx2.padded(n) for n in (40, 44, 49)] == [40, 48, 56]
    assert [rtx.falls(n, 64) for n in (42, 43)] == [False, True]
    assert avx2.cost(187, 187, 187) > 1.7 > avx2.cost(188, 188, 188)
    assert target_of("native") in TARGETS.values()
    with pytest.raises(SpecError, match="there is no deployment target 'trt'; there is native, trt-fp16"):
        target_of("trt")


def on_the_fast_kernel(model: onnx.ModelProto, folder: Path) -> bool:
    """Return whether ONNX Runtime runs the last convolution in its blocked layout."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimised.onnx").graph.node
    domains: list[str] = [node.domain for node in nodes if node.op_type in ("Conv", "FusedConv")]
    return domains[-1] == "com.microsoft.nchwc"


@pytest.mark.parametrize("groups", [1, 2, 4, 64])
def test_onnx_runtime_leaves_out_the_layers_that_the_table_says(groups: int, tmp_path: Path) -> None:
    target = target_of("native")
    if not target.name.startswith("ort-"):
        pytest.skip(f"ONNX Runtime has no blocked layout on this machine ({target.name})")
    each = {1: range(1, 21), 64: (1,)}.get(groups, (4, 7, 8, 12, 16))
    counts = [n * groups for n in each]
    found = {n: on_the_fast_kernel(chain(n, groups=groups), tmp_path) for n in counts}
    assert found == {n: not target.falls(n, 64, groups) for n in counts}


def test_tensorrt_rtx_copies_the_channels_that_the_table_says() -> None:
    """Compiled for real, on the processor; the plan names its generated kernels."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    target = TARGETS["rtx-fp16"]
    kernels = {n: kernels_of(chain(n)) for n in (40, 41, 42, 43)}
    assert {n: kernels[n] > kernels[40] for n in kernels} == {n: target.falls(n, 64) for n in kernels}


def kernels_of(model: onnx.ModelProto) -> int:
    """How many kernels TensorRT-RTX generates for `model` in FP16, besides the convolutions."""
    rtx: Any = importlib.import_module("tensorrt_rtx")
    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(convert_float_to_float16(model).SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(rtx.ComputeCapability.SM86, 0)
    config.profiling_verbosity = rtx.ProfilingVerbosity.DETAILED
    return len(
        re.findall(rb"function ?= ?\{ ?name ?= ?__myl", bytes(builder.build_serialized_network(network, config)))
    )


# Alignment


def test_channels_that_do_not_fit_and_the_interface_that_is_given() -> None:
    model = chain(43, reads=3)
    found = {one.node: one for one in alignment.findings(network_of(model), TARGETS["ort-avx2"])}
    assert {node: one.facts["instead"] for node, one in found.items()} == {
        "first": {"makes": [40, 48]},
        "second": {"reads": [40, 48]},
    }
    assert found["second"].facts["off_fast_kernel"]
    assert found["second"].facts["layer_cost"] == pytest.approx(1.25 * 48 / 43, abs=1e-4)
    assert not found["first"].facts["off_fast_kernel"]
    macs = [64 * 9 * 43 * n for n in (3, 64)]
    paid = alignment.cost(network_of(model), TARGETS["ort-avx2"])
    assert paid.needed == sum(macs)
    assert paid.paid == pytest.approx((macs[0] + 1.25 * macs[1]) * 48 / 43)
    assert list(alignment.findings(network_of(chain(40, reads=3)), TARGETS["ort-avx2"])) == []


def test_a_matrix_and_a_grouped_layer() -> None:
    model = graph(
        "g (float[n, 30] x) => (float[n, 10] y) { a = MatMul(x, w)  b = Relu(a)  y = Gemm<transB = 1>(b, v) }",
        w=np.ones((30, 21), np.float32), v=np.ones((10, 21), np.float32),
    )  # fmt: skip
    network = network_of(model)
    assert [layer.macs for layer in network.layers] == [30 * 21, 0, 21 * 10]
    found = {one.node: one.facts["instead"] for one in alignment.findings(network, TARGETS["generic"])}
    assert found == {"a": {"makes": [16, 24]}, "y": {"reads": [16, 24]}}
    (grouped,) = alignment.findings(network_of(chain(48, groups=4)), TARGETS["ort-avx2"])
    assert "reads 12 channels (8 or 16 fit) in each of 4 groups" in grouped.text


def test_the_demo_fits_what_it_was_rounded_for_and_not_more() -> None:
    dense, compressed = demo_pair()
    for model in (dense, compressed):
        assert alignment.cost(network_of(model), TARGETS["trt-fp16"]).ratio == 1.0
        assert said(check(model, TARGETS["trt-fp16"]).findings) == []
    verdict = check(compressed, TARGETS["ort-avx512"])
    assert verdict.counts()["warning"] > 0
    assert verdict.cost.ratio > 1.05
    assert [one.facts["network_share"] for one in verdict.findings] == sorted(
        (one.facts["network_share"] for one in verdict.findings), reverse=True
    )
    assert check(compressed, TARGETS["ort-avx512"]) == verdict


# FP16


def test_weights_that_fp16_cannot_hold() -> None:
    wide, tiny = np.ones((4, 4), np.float32), np.full((4, 4), 1e-9, np.float32)
    wide[0, 0] = 7e4
    text = "g (float[n, 4] x) => (float[n, 4] y) { a = MatMul(x, w)  b = Add(a, e)  y = MatMul(b, v) }"
    model = graph(text, w=wide, e=np.float32(1e-8), v=tiny)
    assert said(half_range.weights(model)) == [("error", "a"), ("warning", "b"), ("warning", "y")]
    noise = np.ones((4, 4), np.float32)
    noise[1:, 1:] = 1e-10  # as dead channels have, and nobody misses
    assert said(half_range.weights(graph(text, w=noise, e=np.float32(1), v=noise))) == []
    assert "fp16-range" in {one.rule for one in check(model, TARGETS["trt-fp16"]).findings}
    assert "fp16-range" not in {one.rule for one in check(model, TARGETS["ort-avx2"]).findings}


def test_activations_that_fp16_cannot_hold() -> None:
    text = "g (float[n, 4] x) => (float[n, 4] y) { a = Mul(x, s)  b = Mul(a, t)  y = Mul(b, u) }"
    model = graph(text, s=np.float32(100), t=np.float32(1000), u=np.float32(1e-5))
    values = torch.linspace(-1, 1, 160).reshape(40, 4)
    images = as_images(values)
    found = list(half_range.activations(model, images))
    assert said(found) == [("error", "b")]
    assert found[0].facts["largest"] == pytest.approx(1e5)
    assert said(half_range.activations(model, as_images(values / 5))) == [("warning", "b")]
    verdict = check(model, TARGETS["trt-fp16"], images)
    assert ("error", "b") in said(verdict.findings)
    assert verdict.skipped == ()
    assert "give --data" in check(model, TARGETS["trt-fp16"]).skipped[0]


@needs_shared
def test_a_real_network_stays_within_fp16_on_real_images() -> None:
    images, _ = shared_nets.cifar("test", 48)
    program = prepared(capture(shared_nets.load("cifar_resnet20"), (images[:2],)))
    model = export_onnx(program.module, (images[:2],))
    verdict = check(model, TARGETS["trt-fp16"], as_images(images))
    assert (said(verdict.findings), verdict.skipped, verdict.cost.needed) == ([], (), network_of(model).macs)
    network = network_of(model)
    shortcuts = sum(layer.macs for layer in network.layers if layer.name in ("pad", "pad_1"))  # in ONNX alone
    assert shortcuts > 0
    assert network.macs - shortcuts == total_macs(program.fact(Channels))


# Shapes


@pytest.mark.parametrize(
    ("text", "constants", "expected"),
    [
        ("g (float[n, 4] x) => (float[2, 2, 2] y) { y = Reshape(x, s) }", {"s": [2, 2, 2]}, [("error", "y")]),
        ("g (float[n, 4] x) => (float[1, m] y) { y = Reshape(x, s) }", {"s": [1, -1]}, [("warning", "y")]),
        ("g (float[n, 4] x) => (float[n, 2, 2] y) { y = Reshape(x, s) }", {"s": [-1, 2, 2]}, []),
        ("g (float[n, 4] x) => (float[n, 2, 2] y) { y = Reshape(x, s) }", {"s": [0, 2, 2]}, []),
        ("g (float[2, 4] x) => (float[2, 2, 2] y) { y = Reshape(x, s) }", {"s": [2, 2, 2]}, [("note", "x")]),
        ("g (float[n, 3, h, w] x) => (float[n, 3, h, w] y) { y = Relu(x) }", {}, [("note", "x")]),
        ("g (float[n, 4] x) => (int64[2, m] y) { y = NonZero(x) }", {}, [("warning", "y")]),
        (
            "g (float[n, 4] x, int64[1] k) => (float[n, m] v) { v, i = TopK(x, k) }",
            {},
            [("note", "k"), ("warning", "v")],
        ),
        ("g (float[n, 4] x) => (float[n, m] v) { v, i = TopK(x, k) }", {"k": [2]}, []),
        (
            "g (float[n, 4] x) => (float[n, 4] y) { s = Shape(x)  a = Relu(x)  y = Reshape(a, s) }",
            {},
            [],
        ),
        (
            "g (float[n, 4] x, bool c) => (float[n, 4] y) {"
            " y = If (c) <then_branch = t () => (float[n, 4] p) { p = Relu(x) },"
            " else_branch = e () => (float[n, 4] q) { q = Neg(x) }> }",
            {},
            [("warning", "y")],
        ),
    ],
)  # fmt: skip
def test_traps_of_shapes(text: str, constants: dict[str, list[int]], expected: list[tuple[str, str]]) -> None:
    given = {name: np.asarray(value, np.int64) for name, value in constants.items()}
    assert said(dynamic_shapes.findings(graph(text, **given))) == expected


def test_a_branch_on_a_shape_is_named_so() -> None:
    model = graph(
        "g (float[n, 4] x) => (float[n, 4] y) { s = Size(x)  c = Greater(s, limit)"
        " y = If (c) <then_branch = t () => (float[n, 4] p) { p = Relu(x) },"
        " else_branch = e () => (float[n, 4] q) { q = Neg(x) }> }",
        limit=np.int64(8),
    )
    (found,) = dynamic_shapes.findings(model)
    assert "If branches on a shape" in found.text
    fixed = graph("g (float[n, 4] x) => (float[n, 4] y) {"
        " y = If (c) <then_branch = t () => (float[n, 4] p) { p = Relu(x) },"
        " else_branch = e () => (float[n, 4] q) { q = Neg(x) }> }", c=np.bool_(True))  # fmt: skip
    assert [layer.name for layer in network_of(fixed).layers] == ["y"]


# Q and DQ


def test_integers_that_tensorrt_refuses_are_errors_there_alone() -> None:
    model = graph(
        "g (float[n, 16] x) => (float[n, 16] y) { b = DequantizeLinear(q, s)  y = Add(x, b) }",
        q=np.ones(16, np.int32), s=np.float32(0.1),
    )  # fmt: skip
    model.graph.node[0].input[0] = "q"
    (found,) = [one for one in check(model, TARGETS["trt-int8"]).findings if one.rule == "qdq"]
    assert (found.level, found.node) == ("error", "b")
    assert "INT32" in found.text
    assert [one for one in check(model, TARGETS["ort-avx2"]).findings if one.rule == "qdq"] == []


class Noise(CalibrationDataReader):  # type: ignore[misc]
    """Two batches for ONNX Runtime's quantiser."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.left = [{"input": rng.standard_normal((4, 1, 28, 28)).astype(np.float32)} for _ in "ab"]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


def test_what_onnx_runtime_quantises_by_default_is_not_for_tensorrt(tmp_path: Path) -> None:
    """The demo network, quantised for real: the default options, and those that TensorRT's parser takes."""
    onnx.save(demo_pair()[1], tmp_path / "plain.onnx")
    safe = {
        "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True,
    }  # fmt: skip
    kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "op_types_to_quantize": ["Conv"]}
    errors = {}
    for name, options in (("default", {}), ("safe", {**kinds, "per_channel": True, "extra_options": safe})):
        quantize_static(tmp_path / "plain.onnx", tmp_path / f"{name}.onnx", Noise(), **options)
        found = check(onnx.load(tmp_path / f"{name}.onnx"), TARGETS["trt-int8"]).findings
        errors[name] = {one.text for one in found if one.level == "error"}
    assert any("INT32" in text for text in errors["default"])
    assert any("zero point is not 0" in text for text in errors["default"])
    assert errors["safe"] == set()


# The command


prunec = partial(command.prunec, columns=200)


def test_exit_codes_are_for_pipelines(tmp_path: Path) -> None:
    model = tmp_path / "odd.onnx"
    onnx.save(chain(43), model)
    for level, code in (("never", 0), ("error", 0), ("warning", 9), ("note", 9)):
        found, output = prunec("lint", model, "--target", "rtx-fp16", "--fail-on", level)
        assert (found, "second" in output) == (code, True), output
    code, output = prunec("lint", model, "--target", "rtx-fp16", "--json")
    facts = json.loads(output)
    assert (code, facts["counts"]) == (0, {"error": 0, "warning": 2, "note": 1})
    assert facts["findings"][0]["facts"]["instead"] == {"makes": [40, 48]}
    assert facts["target"]["granule"] == 2
    assert facts["macs"]["ratio"] > 1


def test_a_clean_file_says_so(tmp_path: Path) -> None:
    onnx.save(chain(64), tmp_path / "even.onnx")
    code, output = prunec("lint", tmp_path / "even.onnx", "--target", "trt-tf32", "--fail-on", "warning")
    assert (code, "every block is full" in output, "1 note" in output) == (0, True, True), output


def test_images_are_measured(tmp_path: Path) -> None:
    onnx.save(graph("g (float[n, 4] x) => (float[n, 4] y) { y = Mul(x, s) }", s=np.float32(1e5)), tmp_path / "m.onnx")
    np.savez(tmp_path / "images.npz", inputs=np.ones((8, 4), np.float32))
    code, output = prunec("lint", tmp_path / "m.onnx", "--target", "trt-fp16", "--data", tmp_path / "images.npz")
    assert (code, "infinite in FP16" in output) == (9, True), output


@pytest.mark.parametrize(("code", "words"), [(7, "there is no model file"), (7, "is not a whole ONNX model")])
def test_files_that_cannot_be_read(code: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    if "whole" in words:
        path.write_bytes(chain(43).SerializeToString()[:-100])
    found, output = prunec("lint", path)
    assert (found, words in output, len(output.strip().splitlines())) == (code, True, 1), output
