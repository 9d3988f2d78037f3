"""Score channels at random: the baseline that every criterion has to beat.

score_j ~ U(0, 1), drawn with the seed of the run and the name of the space

(Mittal et al., WACV 2018.)
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
    """Random numbers, reproducible by the seed."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        digest = hashlib.sha256(f"{evidence.context.seed}:{evidence.space.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.rand(evidence.space.size, generator=generator, dtype=torch.float64)
