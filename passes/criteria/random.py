"""Any order: the baseline that every criterion has to beat (Mittal et al., WACV 2018).

score_j ~ U(0, 1), drawn with the seed of the run and the name of the space
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Random(Criterion):
    """Numbers drawn at random; the same seed gives the same."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]."""
        digest = hashlib.sha256(f"{evidence.context.seed}:{evidence.space.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.rand(evidence.space.size, generator=generator, dtype=torch.float64)
