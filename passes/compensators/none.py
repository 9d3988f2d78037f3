"""Skip compensation: the plain slice, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compensation.interface import Compensator


@dataclass(frozen=True)
class NoCompensation(Compensator):
    """Keep the sliced weights."""

    sweeps = False
