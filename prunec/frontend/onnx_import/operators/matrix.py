"""Import products of matrices.

Sources: https://onnx.ai/onnx/operators/onnx__Gemm.html, https://onnx.ai/onnx/operators/onnx__MatMul.html,
https://onnx.ai/onnx/operators/onnx__Einsum.html. `Linear` is `MatMul` or `Gemm` with a constant matrix [out, in], as
`prepare` writes them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, operator


@operator("Linear")
def linear(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a constant matrix [out, in] to the last axis."""
    return F.linear(x, weight, bias)


@operator("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Import `Gemm`: alpha·A·B + beta·C."""
    a = a.transpose(0, 1) if node.get("transA", 0) else a
    b = b.transpose(0, 1) if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    product = torch.matmul(a, b) if alpha == 1 else torch.matmul(a, b) * alpha
    if c is None or beta == 0:
        return product
    return product + (c if beta == 1 else c * beta)


@operator("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Import `MatMul`."""
    return torch.matmul(a, b)


@operator("Einsum")
def einsum(node: Node, *tensors: Tensor) -> Tensor:
    """Import `Einsum`."""
    return torch.einsum(node.get("equation"), *tensors)
