"""Define the interface of compensators and their fits; one algorithm per file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..ir.program import Program
from ..pipeline.context import Context
from ..statistics.folds import FEWER, KEPT, Folds
from ..statistics.moments import Moments
from ..surgery.plan import Plan

Fit = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Fits:
    """Weight and bias of a layer, fitted to all images and to those outside folds."""

    all: Fit
    held_out: Sequence[tuple[tuple[int, ...], Fit]] = ()
    """Folds left out, and the fit to all others."""

    def changed(self, change: Callable[[Fit], Fit]) -> Fits:
        """Return a copy with `change` applied to each fit."""
        return Fits(change(self.all), [(folds, change(fit)) for folds, fit in self.held_out])


Change = Callable[[Fits], Fits]


def unchanged(fits: Fits) -> Fits:
    """Return `fits`."""
    return fits


class Compensator:
    """Refit of layers that read removed channels."""

    sweeps: ClassVar[bool] = True  # needs the compensation sweep, not dense statistics only

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Return the plan with the refits of all layers, without a sweep."""
        return plan

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> Fit:
        """Return the refitted weight [g, o, d] and bias [g, o] of a narrow layer.

        `weight`, `bias` are the sliced originals, float64; `moments` are those of the pruned inputs z and of the dense
        outputs y at the same positions. Called if `sweeps`.
        """
        raise NotImplementedError(f"{type(self).__name__} fits no layer by itself")

    def fits(self, folds: Folds, weight: Tensor, bias: Tensor, then: Change = unchanged) -> Fits:
        """Return fits to all images and to those outside each fold, changed by `then`.

        Only the former reads the held-out images: no choice and no other fit does.
        """
        return then(self.fits_by(self.fit, folds, weight, bias))

    @staticmethod
    def fits_by(fit: Callable[[Moments, Tensor, Tensor], Fit], folds: Folds, weight: Tensor, bias: Tensor) -> Fits:
        """Return `fits` with `fit` for each."""
        count = len(folds.parts)
        whole, held_out = fit(folds.total, weight, bias), []
        if count > 1:
            each = fit(folds.rest.as_groups(), weight.repeat(count, 1, 1), bias.repeat(count, 1))
            held_out = list(zip(folds.parts, zip(*(value.chunk(count) for value in each), strict=True), strict=True))
        if folds.kept is None:
            return Fits(whole, held_out)
        held_out.append(((KEPT,), whole))
        held_out += [((fold,), fit(folds.fewer(fold), weight, bias)) for fold in FEWER]
        return Fits(fit(folds.every, weight, bias), held_out)
