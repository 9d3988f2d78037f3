"""Each output gets the mean and variance that it has in the dense network (REPAIR: Jordan et al., ICLR 2023).

    W' = diag(s_y / s_Wz) W_K,      b' = E[y] - W' E[z],      s_Wz² = diag(W_K Cov[z] W_K')

y is the dense output, z what the pruned network feeds the layer, front to back. FSM (Duan et al., ACCV 2022) corrects
the statistics of the batch norms in the same spirit; here they are folded, and the layer itself takes the correction.
y is not corrected for the drift of a shortcut, as it is for least squares: that would add to its variance.
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
    """Rescale and shift every output over `rows` sampled positions a layer; none grows by more than `limit`."""

    rows: int = 16384
    limit: float = 10.0

    sweeps = False  # of `compensate`: its own has other targets

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Every layer whose input has drifted."""
        return moment_matching.repaired(program, plan, context, self.rows, self.limit)
