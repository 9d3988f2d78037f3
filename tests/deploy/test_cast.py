"""Casting: every layer is of the type, what leaves the range is not, and rounding is what the file says."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from conftest import needs_shared
from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from shared_nets import cifar, load

from prunec import demo
from prunec.data.images import Images
from prunec.deploy.onnx import provenance
from prunec.deploy.onnx.clean import TIDY, clean
from prunec.deploy.onnx.element_types import element_types, inferred, require
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort import reference
from prunec.deploy.ort.runtime import run, session
from prunec.deploy.precision import half
from prunec.deploy.precision.cast import Cast, cast
from prunec.deploy.precision.ranges import measure
from prunec.errors import BackendError, NumericsError, SpecError
from prunec.evaluate import accuracy

HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
X = torch.tensor([[1.0, 0.1, 100.0, 3.14159], [2.0, -0.3, 7.0, 1e-3]])
IMAGES = Images((X,), None, "four numbers")
TALL = """
    <ir_version: 10, opset_import: ["" : 18]>
    g (float[batch, 4] x) => (float[batch, 4] y)
    <float thousand = {1000.0}, float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
    {
        a = MatMul(x, w)
        b = Mul(a, thousand)
        c = Mul(b, thousand)
        d = Relu(c)
        e = Div(d, thousand)
        f = Div(e, thousand)
        y = MatMul(f, w)
    }
"""


def tall() -> onnx.ModelProto:
    """Build an identity for positive inputs by way of 1e6 · x, beyond FP16."""
    model = onnx.parser.parse_model(TALL)
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@cache
def demo_model() -> onnx.ModelProto:
    images = demo.calibration_images()
    return export_onnx(demo.load_network(), (images.inputs[0][:2],), provenance={"version": "1"})


@cache
def demo_cast(precision: str) -> Cast:
    return cast(demo_model(), precision, demo.calibration_images().take(32, 0))


def weights(model: onnx.ModelProto) -> set[int]:
    return {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_demo_network_is_all_of_the_type(precision: str) -> None:
    done = demo_cast(precision)
    assert (done.kept, done.layers) == ({}, 22)
    assert weights(done.model) == {HALF[precision]}
    types = element_types(inferred(done.model))
    assert {types[node.output[0]] for node in done.model.graph.node if node.op_type != "Cast"} == {HALF[precision]}
    assert (types["input"], types["output"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
    assert [agreement.batch for agreement in done.parity.agreements] == [1, 2, 32]
    assert done.model.ByteSize() < 0.55 * demo_model().ByteSize()


@pytest.mark.parametrize(("precision", "points"), [("fp16", 0.2), ("bf16", 1.0)])
def test_the_demo_network_is_as_accurate(precision: str, points: float) -> None:
    test = demo.test_images().take(500, 0)
    before, after = (accuracy(reference.session(one), test) for one in (demo_model(), demo_cast(precision).model))
    assert abs(before - after) <= points


def test_the_story_goes_on() -> None:
    found = provenance.read(demo_cast("fp16").model)
    assert (found["version"], found["precision"], found["precision_kept"]) == ("1", "fp16", "0")
    assert found["parent"] == provenance.digest(demo_model())
    assert found["precision_images"] == demo.calibration_images().take(32, 0).digest


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_same_bytes_each_time(precision: str) -> None:
    again = cast(demo_model(), precision, demo.calibration_images().take(32, 0)).model
    assert provenance.digest(again) == provenance.digest(demo_cast(precision).model)


def test_our_own_pass_and_the_runtime_s_converter_agree() -> None:
    images = demo.calibration_images().take(8, 0).inputs
    model = demo_model()
    theirs = convert_float_to_float16(onnx.load_from_string(model.SerializeToString()), keep_io_types=True)
    ours, theirs = half.convert(model, (), TensorProto.FLOAT16), clean(theirs, TIDY)
    [first], [second] = (run(reference.session(one), images) for one in (ours, theirs))
    np.testing.assert_array_equal(first, second)


# Range


def test_what_leaves_the_range_stays_and_says_why() -> None:
    done = cast(tall(), "fp16", IMAGES)
    assert set(done.kept) == {"b", "c", "d", "e", "f"}
    assert done.kept["c"] == "'c' reaches 1e+08, and 1.64e+04 is safe"
    assert done.layers == 2
    np.testing.assert_allclose(run(reference.session(done.model), (X,))[0], X.relu(), rtol=2e-3)


def test_between_two_that_stay_nothing_is_rounded() -> None:
    done = cast(tall(), "fp16", IMAGES)
    casts = [node for node in done.model.graph.node if node.op_type == "Cast"]
    assert len(casts) == 4
    blocked = half.convert(tall(), ("c", "d"), TensorProto.FLOAT16)
    assert not np.isfinite(run(reference.session(blocked), (X,))[0]).all()


def test_bf16_has_the_range() -> None:
    assert cast(tall(), "bf16", IMAGES).kept == {}


def test_the_reference_overflows_where_the_runtime_hides_it() -> None:
    low = half.convert(tall(), (), TensorProto.FLOAT16)
    assert np.isfinite(run(session(low), (X,))[0]).all()
    assert not np.isfinite(run(reference.session(low), (X,))[0]).all()


def test_a_sum_behind_a_mean_counts() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[batch, 4] x) => (float[batch, 1] y)
        <float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, int64[1] axes = {1}>
        { a = MatMul(x, w)  y = ReduceMean(a, axes) }
    """)
    images = Images((torch.full((2, 4), 6000.0),), None, "large")
    found = measure(model, images)
    assert (found.largest["a"], found.sums["y"]) == (6000, 24000)
    done = cast(model, "fp16", images)
    assert list(done.kept.values()) == ["the sum behind 'y' reaches 2.4e+04, and 1.64e+04 is safe"]


def test_what_is_too_small_stays() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[batch, 4] x) => (float[batch, 4] y)
        <float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, float tiny = {0.0000001}>
        { a = MatMul(x, w)  b = Mul(a, tiny)  c = Div(b, tiny)  y = MatMul(c, w) }
    """)
    done = cast(model, "fp16", IMAGES)
    assert set(done.kept) == {"mul_1", "div_2"}
    assert "the least that is exact" in done.kept["mul_1"]
    np.testing.assert_allclose(run(reference.session(done.model), (X,))[0], X, rtol=2e-3)


def test_keep_what_the_user_wants() -> None:
    done = cast(demo_model(), "fp16", demo.calibration_images().take(4, 0), keep=["blocks.1.*", "fc"])
    assert done.kept == dict.fromkeys(("blocks.1.conv1", "blocks.1.conv2", "fc"), "asked for")
    assert done.layers == 19
    assert weights(done.model) == {TensorProto.FLOAT, TensorProto.FLOAT16}


def test_two_that_stay_may_read_one_value() -> None:
    done = cast(demo_model(), "fp16", demo.calibration_images().take(4, 0), keep=["blocks.3.conv1", "add_*"])
    assert done.layers == 21


# Errors


def test_a_precision_that_did_not_happen_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"fp16 did not happen: 'conv1' of node 'conv1' is still FP32") as caught:
        require(demo_model(), "fp16", {})
    assert caught.value.exit_code == 7
    with pytest.raises(BackendError, match=r"no layer could be cast to fp16 \('.*': asked for\)"):
        cast(demo_model(), "fp16", demo.calibration_images().take(4, 0), keep=["*"])
    huge = Images((X * 1e6,), None, "huge")
    with pytest.raises(BackendError, match="no layer could be cast to fp16"):
        cast(tall(), "fp16", huge)


def test_refusals() -> None:
    with pytest.raises(SpecError, match="precision 'fp4' is not known; choose one of fp16, bf16"):
        cast(tall(), "fp4", IMAGES)
    with pytest.raises(SpecError, match="no node is called 'layer9"):
        cast(tall(), "fp16", IMAGES, keep=["layer9.*"])
    with pytest.raises(BackendError, match="is of FLOAT16 already"):
        cast(demo_cast("fp16").model, "bf16", demo.calibration_images().take(4, 0))
    with pytest.raises(NumericsError, match="is not finite in FP32 already"):
        cast(tall(), "fp16", Images((X * 1e36,), None, "endless"))


def test_a_branch_is_not_cast() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[batch, 4] x, bool c) => (float[batch, 4] y)
        {
            y = If (c) <then_branch = t () => (float[batch, 4] a) { a = Relu(x) },
                        else_branch = e () => (float[batch, 4] b) { b = Neg(x) }>
        }
    """)
    with pytest.raises(BackendError, match="'if_0' is a If, which prunec does not cast"):
        cast(model, "fp16", IMAGES)


@needs_shared
def test_a_real_network_in_bf16() -> None:
    """FP16 and INT8 of it are in tests/bench/test_precision.py."""
    calibration, (images, labels) = Images((cifar("train_8192", 32)[0],), None, "train"), cifar("test", 250)
    model = export_onnx(load("cifar_resnet56"), (images[:2],))
    done = cast(model, "bf16", calibration)
    assert (done.layers, done.kept) == (58, {})
    test = Images((images,), labels, "test")
    before, after = (accuracy(reference.session(one), test) for one in (model, done.model))
    assert abs(before - after) <= 1.2
