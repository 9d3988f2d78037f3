"""Compute the relative squared error of outputs, pooled over batches.

    error = sum |f_s(x) - f(x)|² / sum |f(x) - mean f|²         sums and mean f over all images

It does not depend on the batch size: batches are joined as in `prunec.statistics.moments`. If the outputs are constant
over the images, the error is relative to their squares. Entries where the dense network gives infinity are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..errors import NumericsError

CONSTANT = 1e-12  # of the squares: a variance below is rounding
CHUNK = 1 << 22  # entries that are looked at in double at once


class Spread:
    """Squared deviations of the dense outputs from their mean over all images added."""

    def __init__(self) -> None:
        self.about_mean = self.about_zero = 0.0
        self._known: dict[tuple[int, int], tuple[int, Tensor]] = {}  # images and mean, by output and its entries

    def add(self, outputs: Sequence[Tensor], samples: int) -> None:
        """Add the outputs for `samples` images. Raises NumericsError if one is NaN."""
        for place, output in enumerate(outputs):
            if bool(output.isnan().any()):
                raise NumericsError(
                    "the network gives NaN for calibration images: check how they are preprocessed, and its weights"
                )
            for rows in _chunks(by_sample(output, samples)):
                self._join(place, torch.where(rows.isfinite(), rows, 0.0))

    @property
    def scale(self) -> float:
        """Return the sum of squares about the mean, or about 0 for constant outputs."""
        if self.about_mean > CONSTANT * self.about_zero:
            return self.about_mean
        return self.about_zero or 1.0

    def relative(self, squared: float) -> float:
        """Return a squared error over all images, relative. Raises NumericsError if it is not finite."""
        found = squared / self.scale
        if not found < float("inf"):
            raise NumericsError(
                "a smaller network gives NaN or infinity where the dense one does not: freeze the layers that grow, or"
                " give a larger ridge"
            )
        return found

    def _join(self, place: int, rows: Tensor) -> None:
        more, mean = len(rows), rows.mean(0)
        count, before = self._known.get((place, rows.shape[1]), (0, torch.zeros_like(mean)))
        step = mean - before
        self._known[place, rows.shape[1]] = count + more, before + step * (more / (count + more))
        self.about_mean += float((rows - mean).square().sum() + step.square().sum() * (count * more / (count + more)))
        self.about_zero += float(rows.square().sum())


def squared_error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the squared error of all outputs of a batch."""
    total = 0.0
    for one, other in zip(found, wanted, strict=True):
        for mine, dense in zip(_chunks(one.reshape(-1, 1)), _chunks(other.reshape(-1, 1)), strict=True):
            total += float(torch.where(dense.isfinite(), mine - dense, 0.0).square().sum())
    return total


def relative_error(
    found: Sequence[Sequence[Tensor]], wanted: Sequence[Sequence[Tensor]], sizes: Sequence[int]
) -> float:
    """Return the relative squared error over batches of `sizes` images."""
    spread, squared = Spread(), 0.0
    for one, dense, samples in zip(found, wanted, sizes, strict=True):
        spread.add(dense, samples)
        squared += squared_error(one, dense)
    return spread.relative(squared)


def by_sample(output: Tensor, samples: int) -> Tensor:
    """Return an output as [samples, entries], or [1, entries] without an image axis."""
    axis = next((axis for axis, size in enumerate(output.shape) if size == samples), None)
    if axis is not None:
        return output.movedim(axis, 0).reshape(samples, -1)
    apart = output.dim() and output.shape[0] % samples == 0
    return output.reshape(samples if apart else 1, -1)


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    """Yield chunks of rows, in double."""
    for part in rows.split(max(1, CHUNK // max(rows.shape[1], 1))):
        yield part.double()
