"""Measure networks without prunec: MACs as torch counts them, and the error of outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Divide squared errors by the variance of outputs, or by squares without variance (`class_token`)."""
    variance, squares = (wanted - wanted.mean(0)).square().sum(), wanted.square().sum()
    return float((found - wanted).square().sum() / (variance if variance > 1e-9 * squares else squares))


def macs_by_torch(module: nn.Module, x: Tensor) -> int:
    """Count the MACs of one sample with torch's own FLOP counter, two FLOPs a MAC."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(x)  # a fused attention is not counted
    return int(counter.get_total_flops()) // 2 // len(x)
