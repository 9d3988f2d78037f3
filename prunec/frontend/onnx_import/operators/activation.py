"""Import activations.

Sources: the pages https://onnx.ai/onnx/operators/onnx__NAME.html of the operators registered here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, is_number, operator

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
    "Softsign": F.softsign,
    "Softplus": F.softplus,
    "Mish": F.mish,
}


@operator(*PLAIN)
def plain(node: Node, x: Tensor) -> Tensor:
    """Import an activation without attributes."""
    return PLAIN[node.kind](x)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    """Import `LeakyRelu`."""
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """Import `PRelu`: per-channel slopes [C, 1, 1] as PyTorch's, any other by its definition."""
    lone = slope.dim() <= 1 and slope.numel() == 1
    if lone or (slope.dim() == x.dim() - 1 and slope.shape[0] == slope.numel() == x.shape[1]):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    """Import `Elu`."""
    return F.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    """Import `Celu`."""
    return F.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    """Import `Selu`, whose constants are attributes."""
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    found: Tensor = F.elu(x, alpha) * gamma
    return found


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    """Import `Swish`: x·sigmoid(alpha·x)."""
    alpha = node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(x * alpha)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    """Import `ThresholdedRelu`."""
    return F.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """Import `HardSigmoid`: PyTorch's slope is 1/6, ONNX's by default 0.2."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    """Import `Gelu`."""
    return F.gelu(x, approximate=node.get("approximate", "none"))


@operator("Clip", numbers=(1, 2))
def clip(node: Node, x: Tensor, least: Any = None, most: Any = None) -> Tensor:
    """Import `Clip`, with bounds as attributes or inputs."""
    least, most = (_bound(one) for one in (node.get("min", least), node.get("max", most)))
    return x if least is None and most is None else torch.clamp(x, least, most)


def _bound(value: Any) -> Any:
    return value[0] if is_number(value) and isinstance(value, list) else value


@operator("Softmax", "LogSoftmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Import `Softmax` and `LogSoftmax` over one axis (operator set 13 and later)."""
    function = F.softmax if node.kind == "Softmax" else F.log_softmax
    return function(x, dim=node.get("axis", -1))
