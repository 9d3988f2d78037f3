"""Define the interface of compensators, and the fits that they give; one algorithm a file."""

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
    """Weight and bias of one layer fitted to all images, and to those outside some folds."""

    all: Fit
    held_out: Sequence[tuple[tuple[int, ...], Fit]] = ()
    """The folds left out, and the fit to all others."""

    def changed(self, change: Callable[[Fit], Fit]) -> Fits:
        """Return a copy with each fit changed."""
        return Fits(change(self.all), [(folds, change(fit)) for folds, fit in self.held_out])


Change = Callable[[Fits], Fits]


def unchanged(fits: Fits) -> Fits:
    """Leave fits as they are."""
    return fits


class Compensator:
    """Makes up for what is gone by changing the weights of the layers that read it."""

    sweeps: ClassVar[bool] = True  # whether it needs the compensation sweep, or the dense statistics only

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Without a sweep: the plan with the refits of all layers."""
        return plan

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> Fit:
        """The refitted weight [g, o, d] and bias [g, o] of a narrow layer.

        `weight`, `bias` are the sliced originals, float64; `moments` are those of the pruned inputs z and of the
        outputs y that the dense network gives at the same places. Called where `sweeps`.
        """
        raise NotImplementedError(f"{type(self).__name__} fits no layer by itself")

    def fits(self, folds: Folds, weight: Tensor, bias: Tensor, then: Change = unchanged) -> Fits:
        """The fit to all images, and those to the images outside each part of the folds; each changed by `then`.

        Those that were kept back are in the former alone: no choice and no other fit has seen them.
        """
        return then(self.fits_by(self.fit, folds, weight, bias))

    @staticmethod
    def fits_by(fit: Callable[[Moments, Tensor, Tensor], Fit], folds: Folds, weight: Tensor, bias: Tensor) -> Fits:
        """`fits` with one way to fit for all."""
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
