"""Draw samples of a network's inputs where the user gives too few, or none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..device import CPU
from ..ir.calling import samples_of


def noise_like(examples: Sequence[Tensor], count: int | None = None, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw `count` samples on the CPU of the examples' types: noise, or valid integers.

    By default as many as there are examples. Integers lie between the smallest and the largest of the example, so that
    an embedding has a row for each. Booleans, integers that are all 0 or 1 (possibly masks), and whole floats repeat
    the example.
    """
    generator = torch.Generator().manual_seed(seed)
    given = (one.detach().to(CPU) for one in examples)
    return tuple(_noise(one if count is None else samples_of(one, count), generator) for one in given)


def noise_of(
    shape: Sequence[int],
    kind: torch.dtype,
    count: int,
    rows: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw `count` samples of one input.

    Normal noise, pixels for uint8, or integers below `rows`, by default 0 and 1.
    """
    generator = generator or torch.Generator().manual_seed(0)
    if kind.is_floating_point:
        return torch.randn(count, *shape, generator=generator).to(kind)
    most = 2 if kind == torch.bool else torch.iinfo(kind).max + 1
    below = min(rows or (256 if kind == torch.uint8 else 2), most)
    return torch.randint(below, (count, *shape), generator=generator).to(kind)


def _noise(samples: Tensor, generator: torch.Generator) -> Tensor:
    if samples.is_floating_point():
        whole = bool((samples == samples.round()).all()) and bool((samples != samples.flatten()[:1]).any())
        return samples if whole else torch.randn(samples.shape, generator=generator).to(samples.dtype)
    least, most = (0, 1) if samples.dtype == torch.bool else (int(samples.min()), int(samples.max()))
    if least >= 0 and most <= 1:
        return samples
    return torch.randint(least, most + 1, samples.shape, generator=generator).to(samples.dtype)


def why_nothing_varies(inputs: Sequence[Tensor]) -> str | None:
    """Return what cannot be measured on identical samples; None where they differ."""
    if any(not torch.equal(one[0], one[-1]) or bool((one != one[:1]).any()) for one in inputs):
        return None
    count = len(inputs[0])
    many = f"the {count} calibration images are all alike" if count > 1 else "there is a single calibration image"
    return (
        f"{many}, so nothing varies over images: errors cannot be measured relative to the variance, nor which channels"
        " matter, and the result fits this image alone; give a few hundred different ones"
    )
