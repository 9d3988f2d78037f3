"""Import convolutions.

Sources: https://onnx.ai/onnx/operators/onnx__Conv.html, https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..node import Node, operator
from .windows import by_rank, pads_of, steps_of, symmetric

CONV = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@operator("Conv")
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Import `Conv`, of 1 to 3 spatial axes."""
    rank = weight.dim() - 2
    function = by_rank(node, CONV, rank)
    x, padding = symmetric(x, *pads_of(node, x, weight.shape[2:]))
    strides, dilations = steps_of(node, rank)
    found: Tensor = function(x, weight, bias, strides, padding, dilations, node.get("group", 1))
    return found


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Import `ConvTranspose`; pads that differ at the two ends are cropped after it."""
    rank = weight.dim() - 2
    function = by_rank(node, TRANSPOSED, rank)
    strides, dilations = steps_of(node, rank)
    extra = list(node.get("output_padding") or [0] * rank)
    begins, ends = _transposed_pads(node, x, weight, extra)
    group = node.get("group", 1)
    if begins == ends:
        found: Tensor = function(x, weight, bias, strides, begins, extra, group, dilations)
        return found
    found = function(x, weight, bias, strides, 0, extra, group, dilations)
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True), 2):
        found = found.narrow(axis, begin, found.shape[axis] - begin - end)
    return found


def _transposed_pads(node: Node, x: Tensor, weight: Tensor, extra: list[int]) -> tuple[list[int], list[int]]:
    rank = weight.dim() - 2
    wanted, mode = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    strides, dilations = steps_of(node, rank)
    if wanted is None and mode.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if wanted is None:
        return pads_of(node, x, weight.shape[2:])
    begins, ends = [], []
    for axis, size in enumerate(list(wanted)[-rank:]):
        grown = strides[axis] * (x.shape[axis + 2] - 1) + extra[axis]
        total = grown + (weight.shape[axis + 2] - 1) * dilations[axis] + 1 - size
        if total < 0:
            raise node.refuse("its output_shape is larger than the convolution makes it")
        begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
        begins.append(begin)
        ends.append(total - begin)
    return begins, ends
