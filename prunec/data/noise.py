"""Samples of the network's inputs where the user gives too few of them, or none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..device import CPU
from ..ir.calling import samples_of


def noise_like(examples: Sequence[Tensor], count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """`count` samples on the CPU, seeded, of the type of the examples: normal noise, or integers as in the examples.

    Integers lie between the smallest and the largest of the example, so that an embedding has a row for each. Booleans,
    and integers that are all 0 or 1, may be masks, and are those of the examples over again.
    """
    generator = torch.Generator().manual_seed(seed)
    return tuple(_noise(one.detach().to(CPU), count, generator) for one in examples)


def noise_of(shape: Sequence[int], kind: torch.dtype, count: int, rows: int | None = None, seed: int = 0) -> Tensor:
    """`count` samples of one input: normal noise, pixels for uint8, or integers below `rows`, or else 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    if kind.is_floating_point:
        return torch.randn(count, *shape, generator=generator).to(kind)
    most = 2 if kind == torch.bool else torch.iinfo(kind).max + 1
    below = min(rows or (256 if kind == torch.uint8 else 2), most)
    return torch.randint(below, (count, *shape), generator=generator).to(kind)


def _noise(example: Tensor, count: int, generator: torch.Generator) -> Tensor:
    shape = (count, *example.shape[1:])
    if example.is_floating_point():
        return torch.randn(shape, generator=generator).to(example.dtype)
    samples = samples_of(example, count)
    least, most = (0, 1) if example.dtype == torch.bool else (int(example.min()), int(example.max()))
    if least >= 0 and most <= 1:
        return samples
    return torch.randint(least, most + 1, shape, generator=generator).to(example.dtype)


def why_nothing_varies(inputs: Sequence[Tensor]) -> str | None:
    """Return what cannot be measured on samples that are all alike; None where they differ."""
    if any(not torch.equal(one[0], one[-1]) or bool((one != one[:1]).any()) for one in inputs):
        return None
    count = len(inputs[0])
    many = f"the {count} calibration images are all alike" if count > 1 else "there is a single calibration image"
    return (
        f"{many}, so nothing varies over images: errors cannot be measured relative to the variance, nor which channels"
        " matter, and the result fits this image alone; give a few hundred different ones"
    )
