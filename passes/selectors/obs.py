"""Backward elimination with exact refit: optimal brain surgeon on blocks (OSSCAR, Meng et al., ICML 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunec.facts import Curve
from prunec.linalg import Reader, backward
from prunec.strategy import Selector


@dataclass(frozen=True)
class Obs(Selector):
    """Remove the coordinate whose loss costs least after refitting, again and again.

    `ridge` is relative to the mean variance of the inputs.
    """

    ridge: float = 1e-3

    def curve(self, readers: Sequence[Reader]) -> Curve:
        """The removal order, and the compensated error relative to the readers' output variance."""
        return Curve(*backward(readers, self.ridge))
