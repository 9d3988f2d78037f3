"""Quantising: legal for TensorRT, near to FP32 as Q and DQ are defined, narrow layers left alone and named."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import needs_shared
from onnx import TensorProto, numpy_helper
from shared_nets import cifar, load
from torch import Tensor, nn

from prunec import demo
from prunec.data.images import Images
from prunec.deploy.onnx import provenance
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort import reference
from prunec.deploy.ort.runtime import run, session
from prunec.deploy.precision import qdq
from prunec.deploy.precision.cast import cast
from prunec.deploy.precision.quantize import Quantised, quantize
from prunec.errors import BackendError, DataError, NumericsError, SpecError
from prunec.evaluate import accuracy

LOW = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
KINDS = pytest.mark.parametrize("kind", LOW)


class Mixed(nn.Module):
    """Wide, grouped and depthwise convolutions, and a product of two computed matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=8)
        self.head = nn.Linear(32, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.grouped(self.depthwise(self.wide(x).relu()).relu()).relu()
        rows = x.flatten(2)
        mixed = torch.matmul(rows, rows.transpose(1, 2)) / rows.shape[2]
        out: Tensor = self.head(mixed.mean(2))
        return out


@cache
def demo_model(opset: int = 20) -> onnx.ModelProto:
    images = demo.calibration_images()
    return export_onnx(demo.load_network(), (images.inputs[0][:2],), opset=opset, provenance={"version": "1"})


def few(count: int = 96) -> Images:
    return demo.calibration_images().take(count, 0)


@cache
def demo_quantised(kind: str) -> Quantised:
    return quantize(demo_model(), kind, few())


@KINDS
def test_the_demo_network_is_quantised_and_legal(kind: str) -> None:
    done = demo_quantised(kind)
    assert done.left == {"conv1": "1 channels a group, under 16", "fc": "10 channels a group, under 16"}
    assert qdq.findings(done.model) == ()
    assert set(qdq.quantised_layers(done.model)) == set(done.layers)
    assert len(done.layers) == 20
    kinds = Counter(tensor.data_type for tensor in done.model.graph.initializer if len(tensor.dims) == 4)
    assert kinds == {LOW[kind]: 20, TensorProto.FLOAT: 1}
    assert TensorProto.INT32 not in {tensor.data_type for tensor in done.model.graph.initializer}
    assert done.model.ByteSize() < 0.3 * demo_model().ByteSize()


@KINDS
def test_nothing_stands_between_a_convolution_and_its_relu(kind: str) -> None:
    model = demo_quantised(kind).model
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    after = {readers[node.output[0]] for node in model.graph.node if node.op_type == "Conv"}
    assert after <= {"Relu", "Add"}


@KINDS
def test_the_demo_network_is_as_accurate(kind: str) -> None:
    test = demo.test_images().take(500, 0)
    before, after = (accuracy(reference.session(one), test) for one in (demo_model(), demo_quantised(kind).model))
    assert after >= before - 1


@KINDS
def test_weights_are_rounded_to_the_nearest(kind: str) -> None:
    model = demo_quantised(kind).model
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in demo_model().graph.initializer}
    name = "blocks.4.conv1.weight"
    scale = stored[f"{name}_scale"].reshape(-1, 1, 1, 1)
    error = np.abs(stored[f"{name}_quantized"].astype(np.float32) * scale - exact[name])
    top = np.abs(exact[name]).max((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(scale, top / (127 if kind == "int8" else 448), rtol=0.02)
    half = scale / 2 if kind == "int8" else np.maximum(np.abs(exact[name]) / 16, scale * 2**-9)
    assert (error <= half * 1.02).all()


def test_the_runtime_is_wrong_where_the_reference_is_right() -> None:
    """ONNX Runtime removes a Relu before an FP8 quantiser; the reference keeps it."""
    images = few(4).inputs
    [exact], [right] = (run(reference.session(one), images) for one in (demo_model(), demo_quantised("fp8").model))
    assert np.abs(right - exact).max() < 1
    evaluated: Any = onnx.reference.ReferenceEvaluator(demo_quantised("fp8").model).run(
        None, {"input": images[0].numpy()}
    )
    # a step of E4M3 is an eighth, and a sum in another order (AVX-512 has one of its own) tips a value over it
    assert np.abs(right - evaluated[0]).mean() < 0.05
    np.testing.assert_allclose(right, evaluated[0], atol=0.2)


def test_fp8_that_the_runtime_cannot_run_says_what_can() -> None:
    with pytest.raises(BackendError, match="prunec evaluate --as-written does not"):
        session(demo_quantised("fp8").model)


@KINDS
def test_then_the_rest_may_be_cast(kind: str) -> None:
    done = cast(demo_quantised(kind).model, "fp16", few(16))
    assert (done.layers, done.kept) == (22, {})
    assert qdq.findings(done.model) == ()
    found = provenance.read(done.model)
    assert (found["version"], found["quantisation"], found["precision"]) == ("1", kind, "fp16")
    assert found["parent"] == provenance.digest(demo_quantised(kind).model)


@KINDS
def test_the_same_bytes_each_time(kind: str) -> None:
    assert provenance.digest(quantize(demo_model(), kind, few()).model) == provenance.digest(demo_quantised(kind).model)


def test_narrow_grouped_and_computed_layers_are_left() -> None:
    torch.manual_seed(0)
    images = Images((torch.randn(64, 3, 8, 8),), None, "noise")
    model = export_onnx(Mixed().eval(), (images.inputs[0][:2],), opset=20)
    done = quantize(model, "int8", images, method="average", keep=["head"])
    assert set(done.layers) == {"wide", "depthwise"}
    assert done.left == {
        "stem": "3 channels a group, under 16",
        "grouped": "4 channels a group, under 16",
        "matmul_0": "its weight is computed, not constant",
        "head": "asked for",
    }
    assert "head" in quantize(model, "int8", images).layers


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SpecError, match="cannot quantise to 'int4'"):
        quantize(demo_model(), "int4", few())
    with pytest.raises(SpecError, match="no node is called 'layer9"):
        quantize(demo_model(), "int8", few(), keep=["layer9.*"])
    with pytest.raises(BackendError, match=r"no layer is left to quantise \('.*': asked for\)"):
        quantize(demo_model(), "int8", few(), keep=["*"])
    with pytest.raises(BackendError, match=r"of opset 18, and FP8 needs 19: export it with --opset normal"):
        quantize(demo_model(18), "fp8", few())
    with pytest.raises(BackendError, match="is of FLOAT16 already"):
        quantize(cast(demo_model(), "fp16", few(4)).model, "int8", few())
    with pytest.raises(DataError, match="the model takes input"):
        quantize(demo_model(), "int8", Images((torch.ones(4, 1, 8, 8),), None, "small"))
    with pytest.raises(NumericsError, match="the outputs are not finite in FP32 already"):
        quantize(demo_model(), "int8", Images((torch.full((4, 1, 28, 28), 3e38),), None, "endless"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@KINDS
@pytest.mark.parametrize("half", [False, True])
def test_tensorrt_rtx_takes_it(kind: str, half: bool) -> None:
    trt = importlib.import_module("tensorrt_rtx")
    model = cast(demo_quantised(kind).model, "fp16", few(16)).model if half else demo_quantised(kind).model
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, builder.logger)
    assert parser.parse(model.SerializeToString()), parser.get_error(0).desc()
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile.set_shape("input", (1, 1, 28, 28), (8, 1, 28, 28), (32, 1, 28, 28))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config).nbytes > 100_000


@needs_shared
def test_a_real_network_in_fp8() -> None:
    """INT8 of it is in tests/bench/test_precision.py."""
    calibration, (images, labels) = Images((cifar("train_8192", 128)[0],), None, "train"), cifar("test", 250)
    model = export_onnx(load("cifar_resnet56"), (images[:2],), opset=20)
    done = quantize(model, "fp8", calibration)
    assert len(done.layers) == 56
    test = Images((images,), labels, "test")
    before, after = (accuracy(reference.session(one), test) for one in (model, done.model))
    assert after >= before - 2
