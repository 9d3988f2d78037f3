"""Import normalisations.

Sources: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html, and the pages of InstanceNormalization,
LayerNormalization, GroupNormalization, RMSNormalization, LRN and LpNormalization.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, operator


@operator("BatchNormalization")
def batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Import `BatchNormalization` in inference."""
    if node.get("training_mode", 0):
        raise node.refuse("it is in training mode; export the network after net.eval()")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Import `InstanceNormalization`."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Import `LayerNormalization` over the axes from `axis` on."""
    if any(node.outputs[1:]):
        raise node.refuse("its mean or deviation is read")
    axis = node.get("axis", -1) % x.dim()
    sizes = list(x.shape[axis:])
    if scale.shape == torch.Size(sizes):
        return F.layer_norm(x, sizes, scale, bias, node.get("epsilon", 1e-5))
    plain = F.layer_norm(x, sizes, None, None, node.get("epsilon", 1e-5)) * scale
    return plain if bias is None else plain + bias


@operator("RMSNormalization")
def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    """Import `RMSNormalization`."""
    axes = list(range(node.get("axis", -1) % x.dim(), x.dim()))
    return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale


@operator("GroupNormalization")
def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Import `GroupNormalization`: before operator set 21 it scales groups, then channels."""
    groups, epsilon = node.get("num_groups"), node.get("epsilon", 1e-5)
    if node.opset < 21:
        each = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return F.group_norm(x, groups, scale, bias, epsilon)


@operator("LRN")
def local_response_norm(node: Node, x: Tensor) -> Tensor:
    """Import `LRN` over an odd number of channels."""
    size = node.get("size")
    if size % 2 == 0:
        raise node.refuse("its size is even, and PyTorch looks at the other side then")
    return F.local_response_norm(x, size, node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))


@operator("LpNormalization")
def lp_norm(node: Node, x: Tensor) -> Tensor:
    """Import `LpNormalization`."""
    return F.normalize(x, p=float(node.get("p", 2)), dim=node.get("axis", -1))
