"""Rank channels by any criterion, with the compensated error along its order.

The error curve is exact least squares along that order, so that an allocator can compare criteria in one currency.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from prunec.grammar.registry import STRATEGIES
from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion, Selector
from prunec.solvers.least_squares import along
from prunec.statistics.facts import Curve


@dataclass(frozen=True)
class Top(Selector):
    """Remove the lowest score `by` a criterion first. `ridge` is relative to the mean variance of the inputs."""

    by: Criterion = field(default_factory=lambda: STRATEGIES["criteria"].make("l1"))
    ridge: float = 1e-3

    strategies = MappingProxyType({"by": "criteria"})

    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order, the compensated error along it, and the scores."""
        score = self.by.scores(evidence)
        order = score.argsort(stable=True)
        return Curve(order, along(evidence.readers, order, self.ridge), score)
