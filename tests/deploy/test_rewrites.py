"""The rewrites of an exported graph: each does what it says, and the outputs stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from prunec.deploy.onnx.clean import clean
from prunec.deploy.ort.runtime import run, session
from prunec.errors import SpecError

X = np.arange(2 * 4 * 3 * 3, dtype=np.float32).reshape(2, 4, 3, 3)
HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'
CONV = "<float[3, 4, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[3] b = {1, 2, 3}"


def graph(text: str) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEAD + text))


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # one that takes everything in order is none
        ("<int64[4] i = {0, 1, 2, 3}> { g = Gather<axis = 1>(x, i)  y = Relu(g) }", ["Relu"]),
        ("<int64[4] i = {0, 1, 3, 2}> { g = Gather<axis = 1>(x, i)  y = Relu(g) }", ["Gather", "Relu"]),
        # two are one
        (
            "<int64[3] i = {3, 1, 0}, int64[2] j = {2, 0}> { g = Gather<axis = 1>(x, i)  y = Gather<axis = 1>(g, j) }",
            ["Gather"],
        ),
        # along different axes they are two
        (
            "<int64[3] i = {3, 1, 0}, int64[2] j = {2, 0}> { g = Gather<axis = 1>(x, i)  y = Gather<axis = 2>(g, j) }",
            ["Gather", "Gather"],
        ),
        # a convolution makes what is wanted of it
        (CONV + ", int64[2] i = {2, 0}> { c = Conv(x, w, b)  y = Gather<axis = 1>(c, i) }", ["Conv"]),
        (
            CONV + ", int64[2] i = {2, 0}> { c = Conv(x, w, b)  g = Gather<axis = -3>(c, i)  y = Relu(g) }",
            ["Conv", "Relu"],
        ),
        # but not where another reads all of it
        (
            CONV + ", int64[3] i = {2, 0, 1}> { c = Conv(x, w, b)  g = Gather<axis = 1>(c, i)  y = Add(c, g) }",
            ["Conv", "Gather", "Add"],
        ),
        # three in a row
        (
            "<int64[4] i = {3, 2, 1, 0}, int64[4] j = {1, 0, 2, 3}, int64[2] k = {0, 3}>"
            " { a = Gather<axis = 1>(x, i)  b = Gather<axis = 1>(a, j)  y = Gather<axis = 1>(b, k) }",
            ["Gather"],
        ),
    ],
)
def test_gathers_are_folded(before: str, after: list[str]) -> None:
    model = graph(f"g (float[batch, 4, 3, 3] x) => (float[batch, C, H, W] y) {before}")
    cleaned = clean(model)
    assert ops(cleaned) == after
    np.testing.assert_allclose(run(session(cleaned), (X,))[0], run(session(model), (X,))[0])


SKIP = "int64[2] start = {0, 0}, int64[2] end = {3, 9223372036854775807}, int64[2] axes = {2, 3}"
SKIP += ", int64[2] step = {2, 2}"
PAD = "int64[8] pads = {0, 2, 0, 0, 0, 1, 0, 0}"
SLICED = "s = Slice(x, start, end, axes, step)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"<{SKIP}, {PAD}> {{ {SLICED} y = Pad(s, pads) }}", ["Conv"]),
        # chosen channels, in any order, before and after
        (
            f"<{SKIP}, {PAD}, int64[3] i = {{3, 1, 0}}, int64[4] j = {{5, 0, 3, 2}}>"
            f" {{ g = Gather<axis = 1>(x, i) s = Slice(g, start, end, axes, step) p = Pad(s, pads)"
            " y = Gather<axis = 1>(p, j) }",
            ["Conv"],
        ),
        # a slice of channels, and one axis alone skipped
        (
            "<int64[2] start = {0, 1}, int64[2] end = {3, 4}, int64[2] axes = {3, 1}, int64[2] step = {2, 2}>"
            f" {{ y = {SLICED.removeprefix('s = ')} }}",
            ["Conv"],
        ),
        # whose result is wanted twice
        (f"<{SKIP}, {PAD}> {{ {SLICED} p = Pad(s, pads) r = Relu(p) y = Add(p, r) }}", ["Conv", "Relu", "Add"]),
        # nothing skipped, nothing moved, the middle wanted too, other axes padded, not with zeros, not from the start
        (f"<{PAD}> {{ y = Pad(x, pads) }}", ["Pad"]),
        (f"<{SKIP}> {{ y = {SLICED.removeprefix('s = ')} }}", ["Slice"]),
        (
            f"<{SKIP}, int64[4] i = {{2, 0, 1, 3}}> {{ {SLICED} g = Gather<axis = 1>(s, i) y = Add(s, g) }}",
            ["Slice", "Gather", "Add"],
        ),
        (f"<{SKIP}, int64[8] pads = {{0, 2, 1, 0, 0, 1, 0, 0}}> {{ {SLICED} y = Pad(s, pads) }}", ["Slice", "Pad"]),
        (f"<{SKIP}, {PAD}, float v = {{2}}> {{ {SLICED} y = Pad(s, pads, v) }}", ["Slice", "Pad"]),
        (f'<{SKIP}, {PAD}> {{ {SLICED} y = Pad<mode = "edge">(s, pads) }}', ["Slice", "Pad"]),
        (
            f"<{SKIP.replace('start = {0, 0}', 'start = {1, 0}')}, {PAD}> {{ {SLICED} y = Pad(s, pads) }}",
            ["Slice", "Pad"],
        ),
    ],
)
def test_a_shortcut_that_skips_pixels_is_a_convolution(before: str, after: list[str]) -> None:
    model = graph(f"g (float[batch, 4, 3, 3] x) => (float[batch, C, H, W] y) {before}")
    cleaned = clean(model)
    assert ops(cleaned) == after
    np.testing.assert_array_equal(run(session(cleaned), (X,))[0], run(session(model), (X,))[0])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<int64[2] a = {2, 3}> { y = ReduceMean(x, a) }", ["GlobalAveragePool"]),
        ("<int64[2] a = {-1, -2}> { m = ReduceMean(x, a) y = Relu(m) }", ["GlobalAveragePool", "Relu"]),
        # the axes of pixels gone
        ("<int64[2] a = {2, 3}> { y = ReduceMean<keepdims = 0>(x, a) }", ["GlobalAveragePool", "Flatten"]),
        # other axes, or not known before it runs
        ("<int64[1] a = {3}> { y = ReduceMean(x, a) }", ["ReduceMean"]),
        ("<int64[3] a = {1, 2, 3}> { y = ReduceMean(x, a) }", ["ReduceMean"]),
        ("{ y = ReduceMean(x) }", ["ReduceMean"]),
    ],
)
def test_a_mean_over_all_pixels_is_pooling(before: str, after: list[str]) -> None:
    shape = "batch, 4" if "keepdims" in before else "batch, C, H, W"
    model = graph(f"g (float[batch, 4, 3, 3] x) => (float[{shape}] y) {before}")
    cleaned = clean(model)
    assert ops(cleaned) == after
    np.testing.assert_allclose(run(session(cleaned), (X,))[0], run(session(model), (X,))[0], rtol=1e-6)


def test_nodes_that_hand_on_are_removed() -> None:
    model = graph("""
        g (float[batch, 4, 3, 3] x) => (float[batch, 4, 3, 3] y)
        {
            a = Cast<to = 1>(x)
            b = Transpose<perm = [0, 1, 2, 3]>(a)
            c = Dropout(b)
            d = Concat<axis = 1>(c)
            e = Identity(d)
            f = Transpose<perm = [0, 1, 3, 2]>(e)
            h = Cast<to = 11>(f)
            k = Cast<to = 1>(h)
            y = Relu(k)
        }
    """)
    cleaned = clean(model)
    assert ops(cleaned) == ["Transpose", "Cast", "Cast", "Relu"]
    np.testing.assert_array_equal(run(session(cleaned), (X,))[0], X.transpose(0, 1, 3, 2))


def test_the_interface_is_called_as_the_user_likes() -> None:
    model = graph("g (float[batch, 4, 3, 3] x) => (float[batch, 4, 3, 3] y) { y = Relu(x) }")
    named = clean(model, names={"x": "images", "y": "logits"})
    assert (named.graph.input[0].name, named.graph.output[0].name) == ("images", "logits")
    np.testing.assert_array_equal(run(session(named), (X,))[0], X)
    with pytest.raises(SpecError, match="no input or output 'z' to rename; it has x, y"):
        clean(model, names={"z": "images"})
    with pytest.raises(SpecError, match="'x' cannot be called 'y'"):
        clean(model, names={"x": "y"})
    with pytest.raises(SpecError, match="taken"):
        clean(model, names={"x": "a", "y": "a"})
