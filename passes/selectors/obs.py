"""Eliminate channels backward with exact refit: optimal brain surgeon on blocks.

    cost_j = tr(W_j ([H^-1]_jj)^-1 W_j'),  H = S + r I;    W and H^-1 follow each removal exactly

(OSSCAR: Meng et al., ICML 2024.) Its local search swaps a kept and a removed channel to lower the error. An order
covers all counts at once, so it is improved at three levels only, by swaps of neighbours across each:
`prunec/solvers/exchange.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Selector
from prunec.solvers.exchange import exchanged
from prunec.solvers.least_squares import backward
from prunec.statistics.facts import Curve


@dataclass(frozen=True)
class Obs(Selector):
    """Remove the coordinate whose loss costs least after refitting, repeatedly.

    `swap` pairs are tried at each of three levels afterwards. `ridge` is relative to the mean variance of the inputs.
    """

    ridge: float = 1e-3
    swap: int = 0

    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order, and the error relative to the readers' output variance."""
        order, error = backward(evidence.readers, self.ridge)
        if not self.swap:
            return Curve(order, error)
        return Curve(*exchanged(evidence.readers, order, self.ridge, self.swap))
