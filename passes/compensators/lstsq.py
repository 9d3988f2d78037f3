"""Refit layers by least squares on the dense statistics.

    W_K = W S_:K (S_KK + r I)^-1,      b_K = b + W m - W_K m_K

(CaP: Xie et al. 2021, "Pruning with Compensation", equation of W'.) Each layer is fitted by itself, as if all before it
were dense; `sequential` uses the inputs of the pruned network.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compensation import dense_fit
from prunec.compensation.interface import Compensator
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.surgery.plan import Plan


@dataclass(frozen=True)
class Lstsq(Compensator):
    """Refit weight and bias to the dense statistics by ridge least squares.

    `ridge` is relative to the mean variance of the inputs.
    """

    ridge: float = 1e-3

    sweeps = False

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Refit every layer that reads a removed channel, at once."""
        return dense_fit.fitted(program, plan, self.ridge)
