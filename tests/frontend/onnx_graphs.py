"""Small ONNX graphs of one operator or a few, with random weights."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import Tensor

from prunec.deploy.ort.runtime import run, session
from prunec.frontend.onnx_import.network import OnnxNetwork
from prunec.ir.calling import tensors_of

# One line each: input shape, body with `x` in and `y` out; a weight is written w(name, sizes).
BODIES = {
    "conv": ("N,4,9,9", "w[6,4,3,3] b[6]", "y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)"),
    "conv group": ("N,4,9,9", "w[6,2,3,3]", "y = Conv<group=2, dilations=[2,2]>(x, w)"),
    "conv same upper": ("N,4,9,10", "w[6,4,3,4]", 'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)'),
    "conv same lower": ("N,4,9,10", "w[6,4,3,4]", 'y = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, w)'),
    "conv one-sided pads": ("N,4,9,9", "w[6,4,3,3]", "y = Conv<pads=[0,1,2,0]>(x, w)"),
    "conv 1d": ("N,4,9", "w[6,4,3]", "y = Conv(x, w)"),
    "conv 3d": ("N,2,5,6,7", "w[3,2,3,3,3]", "y = Conv(x, w)"),
    "transposed": ("N,4,5,5", "w[4,6,3,3] b[6]", "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, w, b)"),
    "transposed extra": (
        "N,4,5,5",
        "w[4,3,3,3]",
        "y = ConvTranspose<strides=[2,2], pads=[1,0,1,1], output_padding=[1,0], group=2>(x, w)",
    ),
    "transposed same": ("N,4,5,5", "w[4,6,3,3]", 'y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)'),
    "transposed shape": ("N,4,5,5", "w[4,6,3,3]", "y = ConvTranspose<strides=[2,2], output_shape=[10,10]>(x, w)"),
    "gemm": ("N,8", "w[8,5] b[5]", "y = Gemm(x, w, b)"),
    "gemm transposed": ("N,8", "w[5,8] b[5]", "y = Gemm<transB=1>(x, w, b)"),
    "gemm scaled": ("N,8", "w[5,8] b[1]", "y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)"),
    "matmul and bias": ("N,3,8", "w[8,5] b[5]", "t = MatMul(x, w)  y = Add(b, t)"),
    "matmul batched": ("N,3,8", "w[1,8,5]", "y = MatMul(x, w)"),
    "batch norm": ("N,4,5,5", "s[4] b[4] m[4] v[4]", "p = Abs(v) y = BatchNormalization(x, s, b, m, p)"),
    "layer norm": ("N,3,8", "s[8] b[8]", "y = LayerNormalization(x, s, b)"),
    "instance norm": ("N,4,5,5", "s[4] b[4]", "y = InstanceNormalization(x, s, b)"),
    "lrn": ("N,6,5,5", "", "y = LRN<size=3, alpha=0.3>(x)"),
    "max pool": ("N,2,9,9", "", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)"),
    "max pool ceil": ("N,2,10,10", "", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)"),
    "max pool one-sided": ("N,2,9,9", "", "y = MaxPool<kernel_shape=[3,3], pads=[0,0,2,2]>(x)"),
    "max pool same": ("N,2,9,9", "", 'y = MaxPool<kernel_shape=[2,3], strides=[2,2], auto_pad="SAME_UPPER">(x)'),
    "average pool": ("N,2,9,9", "", "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)"),
    "average pool counted": (
        "N,2,9,9",
        "",
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
    ),
    "average pool one-sided": ("N,2,9,9", "", "y = AveragePool<kernel_shape=[3,3], pads=[0,1,2,1]>(x)"),
    "average pool same": ("N,2,9,9", "", 'y = AveragePool<kernel_shape=[2,2], auto_pad="SAME_LOWER">(x)'),
    "average pool ceil": ("N,2,10,10", "", "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)"),
    "global average": ("N,4,5,6", "", "y = GlobalAveragePool(x)"),
    "global max": ("N,4,5,6", "", "y = GlobalMaxPool(x)"),
    "flatten": ("N,4,5,6", "", "y = Flatten(x)"),
    "flatten 2": ("N,4,5,6", "", "y = Flatten<axis=2>(x)"),
    "reshape": ("N,4,6", "", "s = Constant<value_ints=[0,2,-1]>() y = Reshape(x, s)"),
    "reshape by shape": (
        "N,4,6",
        "",
        "a = Shape(x) i = Constant<value_int=0>() n = Gather(a, i) z = Constant<value_ints=[0]>()"
        " u = Unsqueeze(n, z) k = Constant<value_ints=[-1]>() s = Concat<axis=0>(u, k) y = Reshape(x, s)",
    ),
    "transpose": ("N,4,6", "", "y = Transpose<perm=[0,2,1]>(x)"),
    "squeeze": ("N,1,6,1", "", "a = Constant<value_ints=[1,-1]>() y = Squeeze(x, a)"),
    "unsqueeze": ("N,6", "", "a = Constant<value_ints=[1,-1]>() y = Unsqueeze(x, a)"),
    "expand": ("N,1,6", "", "a = Constant<value_ints=[1,4,1]>() y = Expand(x, a)"),
    "split": ("N,7,3", "", "a = Constant<value_ints=[3,4]>() p, q = Split<axis=1>(x, a) y = Concat<axis=1>(q, p)"),
    "split equal": ("N,7,3", "", "p, q = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(q, p)"),
    "slice": (
        "N,9,7",
        "",
        "s = Constant<value_ints=[1,-2]>() e = Constant<value_ints=[8,-9]>() a = Constant<value_ints=[1,2]>()"
        " k = Constant<value_ints=[2,-2]>() y = Slice(x, s, e, a, k)",
    ),
    "gather": ("N,9,7", "", "i = Constant<value_ints=[3,-1,0]>() y = Gather<axis=1>(x, i)"),
    "gather one": ("N,9,7", "", "i = Constant<value_int=-2>() y = Gather<axis=1>(x, i)"),
    "gather one, nested": ("N,9,7", "w[9]", "i = Constant<value = int64[1,1] {-2}>() y = Gather<axis=1>(x, i)"),
    "tile": ("N,3,2", "", "r = Constant<value_ints=[1,2,3]>() y = Tile(x, r)"),
    "pad": ("N,3,4,4", "", "p = Constant<value_ints=[0,1,2,1,0,0,1,0]>() y = Pad(x, p)"),
    "pad reflect": ("N,3,4,4", "", 'p = Constant<value_ints=[0,0,2,1,0,0,1,0]>() y = Pad<mode="reflect">(x, p)'),
    "pad edge": ("N,3,4,4", "", 'p = Constant<value_ints=[0,0,2,1,0,0,1,0]>() y = Pad<mode="edge">(x, p)'),
    "depth to space": ("N,8,3,4", "", "y = DepthToSpace<blocksize=2>(x)"),
    "depth to space CRD": ("N,8,3,4", "", 'y = DepthToSpace<blocksize=2, mode="CRD">(x)'),
    "space to depth": ("N,2,6,4", "", "y = SpaceToDepth<blocksize=2>(x)"),
    "resize twice": (
        "N,2,4,5",
        "",
        "s = Constant<value_floats=[1.0,1.0,2.0,2.0]>()"
        ' y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)',
    ),
    "resize linear": (
        "N,2,4,5",
        "",
        's = Constant<value_floats=[1.0,1.0,1.5,2.5]>() y = Resize<mode="linear">(x, , s)',
    ),
    "resize sizes": (
        "N,2,4,5",
        "",
        "s = Constant<value_ints=[3,2,7,9]>()"
        ' y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , s)',
    ),
    "resize nearest sizes": (
        "N,2,4,5",
        "",
        "s = Constant<value_ints=[3,2,7,9]>() y = Resize(x, , , s)",
    ),
    "resize cubic": (
        "N,2,4,5",
        "",
        's = Constant<value_floats=[1.0,1.0,2.0,2.0]>() y = Resize<mode="cubic">(x, , s)',
    ),
    "arithmetic": ("N,4,5", "w[4,1] v[5]", "a = Mul(x, w) b = Sub(v, a) c = Div(b, w) y = Add(c, x)"),
    "power": ("N,4", "", "e = Constant<value_float=2.0>() a = Pow(x, e) y = Sqrt(a)"),
    "where": ("N,4", "w[4]", "c = Greater(x, w) z = Constant<value_float=0.5>() y = Where(c, x, z)"),
    "min max": ("N,4", "w[4]", "a = Max(x, w) z = Constant<value_float=0.5>() y = Min(a, z)"),
    "mean of three": ("N,4", "w[4] v[4]", "y = Mean(x, w, v)"),
    "reduce mean": ("N,4,5", "", "a = Constant<value_ints=[-1]>() y = ReduceMean(x, a)"),
    "reduce max": ("N,4,5", "", "a = Constant<value_ints=[1,2]>() y = ReduceMax<keepdims=0>(x, a)"),
    "reduce L2": ("N,4,5", "", "a = Constant<value_ints=[1]>() y = ReduceL2(x, a)"),
    "reduce prod": ("N,4,5", "", "a = Constant<value_ints=[1,2]>() y = ReduceProd(x, a)"),
    "log sum exp": ("N,4,5", "", "a = Constant<value_ints=[1,2]>() y = ReduceLogSumExp(x, a)"),
    "argmax": ("N,4,5", "", "y = ArgMax<axis=1, keepdims=0>(x)"),
    "top": ("N,9", "", "k = Constant<value_ints=[3]>() y, i = TopK(x, k)"),
    "cumulative": ("N,9", "", "k = Constant<value_int=1>() y = CumSum(x, k)"),
    "clip": ("N,9", "", "a = Constant<value_float=-0.5>() b = Constant<value_float=0.25>() y = Clip(x, a, b)"),
    "clip above": ("N,9", "", "b = Constant<value_float=0.25>() y = Clip(x, , b)"),
    "prelu": ("N,4,5,5", "s[4,1,1]", "y = PRelu(x, s)"),
    "prelu elementwise": ("N,4,5", "s[4,5]", "y = PRelu(x, s)"),
    "hard sigmoid": ("N,9", "", "y = HardSigmoid(x)"),
    "elu": ("N,9", "", "y = Elu<alpha=0.7>(x)"),
    "selu": ("N,9", "", "y = Selu(x)"),
    "leaky": ("N,9", "", "y = LeakyRelu<alpha=0.2>(x)"),
    "thresholded": ("N,9", "", "y = ThresholdedRelu<alpha=0.3>(x)"),
    "softmax": ("N,4,5", "", "y = Softmax<axis=1>(x)"),
    "log softmax": ("N,4,5", "", "y = LogSoftmax(x)"),
    "erf": ("N,9", "", "y = Erf(x)"),
    "casts": ("N,9", "", "i = Cast<to=7>(x) y = Cast<to=1>(i)"),
    "cast like": ("N,9", "", "b = CastLike(x, x) y = Identity(b)"),
    "range": (
        "N,9",
        "",
        "a = Constant<value_int=0>() b = Constant<value_int=9>() c = Constant<value_int=1>() r = Range(a, b, c)"
        " f = Cast<to=1>(r) y = Mul(f, x)",
    ),
    "modulo": ("N,9", "w[9]", "y = Mod<fmod=1>(x, w)"),
    "logic": (
        "N,9",
        "w[9]",
        "a = Less(x, w) b = Equal(x, w) c = Or(a, b) d = Not(c) e = And(d, a) f = Xor(e, a) y = Cast<to=1>(f)",
    ),
    "einsum": ("N,4,5", "w[5,3]", 'y = Einsum<equation="nij,jk->nik">(x, w)'),
    "trilu": ("N,5,5", "", "y = Trilu<upper=0>(x)"),
    **{
        name: ("N,9", "", f"y = {name}(x)")
        for name in "Relu Sigmoid Tanh HardSwish Softsign Softplus Mish Abs Neg Exp Floor Ceil Round Sign Sin".split()
    },
}


def graph(body: tuple[str, str, str], opset: int = 18) -> onnx.ModelProto:
    """Return the model of one entry of `BODIES`, its weights drawn from seed 0."""
    shape, weights, text = body
    generator = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[{shape}] x) => (y) {{ {text} }}'
    )
    for each in weights.split():
        name, sizes = each[:-1].split("[")
        values = generator.standard_normal([int(size) for size in sizes.split(",")]).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kind = 7 if "ArgMax" in text else 1
    inferred.graph.output[0].type.tensor_type.elem_type = kind
    return inferred


def sample(model: onnx.ModelProto, samples: int = 3) -> Tensor:
    """Return noise for the one input of a model."""
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return torch.randn(samples, *sizes[1:], generator=torch.Generator().manual_seed(1))


def difference(model: onnx.ModelProto, network: OnnxNetwork | None = None) -> float:
    """Return the largest difference of a network from ONNX Runtime, relative where outputs exceed 1."""
    x = sample(model)
    found = tensors_of((network or OnnxNetwork(model))(x))
    wanted = [torch.from_numpy(one) for one in run(session(model), (x,))]
    assert [one.shape for one in found] == [one.shape for one in wanted]
    assert [one.dtype for one in found] == [one.dtype for one in wanted]
    pairs = zip(found, wanted, strict=True)
    return max(float((a.double() - b.double()).abs().max()) / max(1.0, float(b.abs().max())) for a, b in pairs)
