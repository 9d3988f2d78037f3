"""Import pools.

Sources: https://onnx.ai/onnx/operators/onnx__MaxPool.html, onnx__AveragePool.html, onnx__GlobalAveragePool.html,
onnx__GlobalMaxPool.html, onnx__LpPool.html of the same folder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, operator
from .windows import by_rank, padded, pads_of, steps_of, symmetric

MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
LEAST = torch.finfo(torch.float32).min


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    """Import `MaxPool` without indices; wide or one-sided pads become an explicit pad."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refuse("its second output, the indices, is read")
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    begins, ends = pads_of(node, x, kernel)
    if any(2 * pad > width for pad, width in zip(begins, kernel, strict=True)):
        x, padding = padded(x, begins, ends, LEAST), [0] * rank
    else:
        x, padding = symmetric(x, begins, ends, LEAST)
    strides, dilations = steps_of(node, rank)
    ceil = bool(node.get("ceil_mode", 0))
    return by_rank(node, MAX, rank)(x, kernel, strides, padding, dilations, ceil)  # type: ignore[no-any-return]


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Import `AveragePool`; one-sided pads that do not count divide by the pool of ones."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = steps_of(node, rank)
    if any(one != 1 for one in dilations):
        raise node.refuse("its dilations are not 1")
    begins, ends = pads_of(node, x, kernel)
    ceil, counted = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    pool = by_rank(node, AVERAGE, rank)
    narrow = all(2 * pad <= width for pad, width in zip(begins, kernel, strict=True))
    if begins == ends and narrow:
        return pool(x, kernel, strides, begins, ceil, counted)  # type: ignore[no-any-return]
    wide = padded(x, begins, ends)
    mean: Tensor = pool(wide, kernel, strides, 0, ceil)
    if counted:
        return mean
    inside = padded(torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device), begins, ends)
    return mean / pool(inside, kernel, strides, 0, ceil)  # type: ignore[no-any-return]


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    """Import `GlobalAveragePool`."""
    return x.mean(dim=_spatial(x), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    """Import `GlobalMaxPool`."""
    return x.amax(dim=_spatial(x), keepdim=True)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))
