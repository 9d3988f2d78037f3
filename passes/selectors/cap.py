"""Select channels forward by compensated error (CaP, Xie et al. 2021, "Pruning with Compensation")."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Selector
from prunec.solvers.least_squares import forward
from prunec.statistics.facts import Curve


@dataclass(frozen=True)
class Cap(Selector):
    """Add the coordinate that explains most of the residual; remove the last added first.

    `ridge` is relative to the mean variance of the inputs.
    """

    ridge: float = 1e-3

    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order, and the error relative to the readers' output variance."""
        return Curve(*forward(evidence.readers, self.ridge))
