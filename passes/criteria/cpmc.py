"""Score channels by weight, MACs and parameters together.

w = ( sum over makers |W_j,:|_1 + sum over readers |W_:,j|_1 ) / number of these weights
f = MACs, q = parameters of the channel in all of these layers;  each divided by its largest in the network

score = w - macs · f - parameters · q,        or, with `ratio`,  w / f

(After Yan et al., "CPMC: Multi-Criteria by Weight Dependency", IJCNN 2021.) The paper's own combination was not
available, nor code: this is an interpretation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion
from prunec.statistics.memo import once


@dataclass(frozen=True)
class Cpmc(Criterion):
    """Weights into and out of a channel, less its cost, normalised over the network."""

    macs: float = 0.5
    parameters: float = 0.5
    ratio: bool = False

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        largest = once(evidence.program, "cpmc", lambda: _largest(evidence))
        weight, macs, parameters = (_criteria(evidence) / largest.clamp_min(1e-30)).unbind(1)
        if self.ratio:
            return weight / macs.clamp_min(1e-12)
        return weight - self.macs * macs - self.parameters * parameters


def _criteria(evidence: Evidence) -> Tensor:
    """Return weight, MACs and parameters of each coordinate, float64 [size, 3]."""
    weights = [one.flatten(1) for one in (*evidence.producers, *evidence.consumers)]
    weight = torch.cat(weights, 1).abs().mean(1)
    return torch.stack([weight, *(torch.full_like(weight, cost) for cost in (evidence.macs, evidence.parameters))], 1)


def _largest(evidence: Evidence) -> Tensor:
    """Return the largest value of each criterion in the network, float64 [3]."""
    spaces = evidence.channels.prunable
    every = [_criteria(Evidence(evidence.program, evidence.context, space)) for space in spaces]
    return torch.cat(every).amax(0)
