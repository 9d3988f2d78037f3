"""Least weight for the most cost first (after Yan et al., "CPMC: Multi-Criteria by Weight Dependency", IJCNN 2021).

w = ( sum over makers |W_j,:|_1 + sum over readers |W_:,j|_1 ) / number of these weights
f = MACs, q = parameters that go with the channel in all of these layers;  each divided by its largest in the network

score = w - macs · f - parameters · q,        or, with `ratio`,  w / f

The paper's own way to combine the three was not to be had, nor code: this is an interpretation.
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
    """Weights into and out of a channel, less what it costs; normalised over all channels of the network."""

    macs: float = 0.5
    parameters: float = 0.5
    ratio: bool = False

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]."""
        largest = once(evidence.program, "cpmc", lambda: _largest(evidence))
        weight, macs, parameters = (_criteria(evidence) / largest.clamp_min(1e-30)).unbind(1)
        if self.ratio:
            return weight / macs.clamp_min(1e-12)
        return weight - self.macs * macs - self.parameters * parameters


def _criteria(evidence: Evidence) -> Tensor:
    """Weight, MACs and parameters of each coordinate, float64 [size, 3]."""
    weights = [one.flatten(1) for one in (*evidence.producers, *evidence.consumers)]
    weight = torch.cat(weights, 1).abs().mean(1)
    return torch.stack([weight, *(torch.full_like(weight, cost) for cost in (evidence.macs, evidence.parameters))], 1)


def _largest(evidence: Evidence) -> Tensor:
    """The largest of each criterion in the network."""
    spaces = evidence.channels.prunable
    every = [_criteria(Evidence(evidence.program, evidence.context, space)) for space in spaces]
    return torch.cat(every).amax(0)
