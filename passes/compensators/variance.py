"""Rescale each output to its mean and variance in the dense network.

    W' = diag(s_y / s_Wz) W_K,      b' = E[y] - W' E[z],      s_Wz² = diag(W_K Cov[z] W_K')

(REPAIR: Jordan et al., ICLR 2023.) y is the dense output, z the layer's input in the pruned network, front to back. FSM
(Duan et al., ACCV 2022) corrects batch norm statistics similarly; here norms are folded, and the layer itself takes the
correction. Unlike for least squares, y is not corrected for the drift of a shortcut, which would add to its variance.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compensation import moment_matching
from prunec.compensation.interface import Compensator
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.surgery.plan import Plan


@dataclass(frozen=True)
class Variance(Compensator):
    """Rescale and shift every output to its dense mean and variance.

    Over `rows` sampled positions a layer; no output grows by more than `limit`.
    """

    rows: int = 16384
    limit: float = 10.0

    sweeps = False  # of `compensate`: its own has other targets

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Refit every layer whose input has changed."""
        return moment_matching.repaired(program, plan, context, self.rows, self.limit)
