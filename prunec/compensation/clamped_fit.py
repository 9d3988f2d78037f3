"""Fit a layer to the output of its clamp: ReLU, ReLU6, hardtanh.

    min over W, b of  E|r(p + s) - r(y + s)|²,     p = W z + b,   r(x) = min(max(x, low), high),   s a pruned shortcut
    y' = min(p, low - s)   where y + s <= low
         max(p, high - s)  where y + s >= high
         y                 elsewhere                              then (W, b) <- the least-squares fit to y', and again

A clamped value only needs the right side: y' costs nothing there, and p is free to fit the rest. Each step lowers an
upper bound of the error (the nonlinear variant of He et al. 2017; Zhang, Zou, He & Sun, TPAMI 2016, section 3.2, with
an infinite penalty). The p of a row is that of a fit to other folds, as is the error that selects the best step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..ir.parallel import each
from ..statistics.folds import Folds, Rows
from .interface import Change, Fit, Fits, unchanged

STEPS = 10  # at most; layers of a lower rank take more than others
ENOUGH = 0.98  # of the previous error: a step above is the last
FARTHER = 1.5  # times the distance to the fit to y', which falls short; larger steps oscillate


def fitted_through(folds: Folds, fits_of: Callable[[Folds], Fits], then: Change = unchanged) -> Fits:
    """Return the best of the fits to the outputs and to the clamped outputs.

    `fits_of` fits to all folds and to those outside each; `then` changes its fits, to a lower rank for instance.
    Without stored rows the former are returned.
    """
    wide = fits_of(folds)
    best = then(wide)
    if not folds.rows or len(folds.parts) == 1:
        return best
    sums = _sums(folds, best)
    missed = _missed(folds, sums)
    for _ in range(STEPS):
        wide = _towards(wide, fits_of(folds.aimed(_freed(folds, sums))))
        found = then(wide)
        sums = _sums(folds, found)
        error = _missed(folds, sums)
        if error >= missed:
            break
        best, last, missed = found, missed, error
        if error > ENOUGH * last:
            break
    return best


def _towards(start: Fits, end: Fits) -> Fits:
    """Return fits on the line through both, FARTHER times the distance from `start`."""

    def between(one: Fit, other: Fit) -> Fit:
        weight, bias = (torch.lerp(a, b, FARTHER) for a, b in zip(one, other, strict=True))
        return weight, bias

    pairs = zip(start.held_out, end.held_out, strict=True)
    return Fits(between(start.all, end.all), [(folds, between(one, other)) for (folds, one), (_, other) in pairs])


def _sums(folds: Folds, fits: Fits) -> list[Tensor]:
    """Return p + s of all rows, [R, g, o], by fits without their fold."""
    fit_of = {fold: fit for left_out, fit in fits.held_out for fold in left_out}

    def sums(rows: Rows) -> Tensor:
        weight, bias = (one.to(rows.z) for one in fit_of[rows.fold])
        return torch.einsum("rgd,god->rgo", rows.z, weight).add_(bias).add_(rows.shortcut)

    return each(sums, folds.rows)


def _freed(folds: Folds, sums: Sequence[Tensor]) -> list[Tensor]:
    """Return the targets y' of all rows."""

    def targets(pair: tuple[Rows, Tensor]) -> Tensor:
        rows, total = pair
        wanted = rows.y + rows.shortcut
        free = torch.where(wanted <= rows.low, total.clamp(max=rows.low), wanted)
        return torch.where(wanted >= rows.high, total.clamp(min=rows.high), free) - rows.shortcut

    return each(targets, list(zip(folds.rows, sums, strict=True)))


def _missed(folds: Folds, sums: Sequence[Tensor]) -> float:
    """Return the squared error of the clamped outputs, on images outside the fit."""

    def missed(pair: tuple[Rows, Tensor]) -> float:
        rows, total = pair
        let, wanted = (one.clamp(rows.low, rows.high) for one in (total, rows.y + rows.shortcut))
        return float((let - wanted).square().sum(dtype=torch.float64))

    return sum(each(missed, [pair for pair in zip(folds.rows, sums, strict=True) if pair[0].fold >= 0]))
