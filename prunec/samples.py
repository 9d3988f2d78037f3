"""Samples of the network's inputs where the user gives too few of them, or none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .device import CPU
from .errors import CaptureError


def samples_of(value: Tensor, count: int) -> Tensor:
    """`count` samples of a batch, from its start and over again. Raises CaptureError where there is no batch."""
    if value.dim() == 0 or not value.shape[0]:
        raise CaptureError(f"an example input of shape {tuple(value.shape)} has no batch in front; give [N, …], N ≥ 1")
    return value.detach()[torch.arange(count, device=value.device) % len(value)]


def noise_like(examples: Sequence[Tensor], count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """`count` samples on the CPU: seeded normal noise, or the examples over again where they are whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(count, *one.shape[1:], generator=generator)
        if one.is_floating_point()
        else samples_of(one.to(CPU), count)
        for one in examples
    )
