"""Combine several noisy races towards a target in milliseconds.

    log c = Σ w log(measured / predicted) / Σ w,   w = 1 / (BETWEEN² + s²),   over the networks near the target
    time  = c · predicted,   sure to √(max(1, χ² / (n - 1)) / Σ w),   χ² = Σ w (log(measured / predicted) - log c)²

s is the standard error of one race; the Birge ratio (Phys. Rev. 40, 207, 1932) widens the error of races that differ by
more than it. The first of several races that comes near does so by chance, so no network is judged by its own race
alone. A noisy race has less weight, and more races are run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..cost.terms import Counts
from .table import NS

NEAR, CLOSE = 0.01, 0.08
BETWEEN = 0.02  # standard deviation between races
SURE, ROUNDS = 0.013, 16  # three undisturbed races are enough
SLOWER = 2  # penalty of slower over faster


@dataclass(frozen=True)
class Try:
    """One race: the table's correction, the counts it led to, and their time."""

    correction: float
    counts: Counts
    plain_ns: float  # by the table, not corrected
    true_ns: float  # as measured, by share or by ms, as the target is given
    measured_ms: float
    share: float  # of the dense time, measured side by side
    unsure: float  # relative standard error of `share`

    @property
    def predicted_ms(self) -> float:
        """Return the time in ms by the corrected table."""
        return self.correction * self.plain_ns / NS

    @property
    def factor(self) -> float:
        """Return the correction that would have predicted the measured time."""
        return self.true_ns / self.plain_ns

    @property
    def log(self) -> float:
        """Return the logarithm of `factor`."""
        return math.log(self.factor)

    @property
    def weight(self) -> float:
        """Return the weight among all races."""
        return 1 / (BETWEEN**2 + self.unsure**2)

    def to_json(self) -> dict[str, float]:
        """Return the entry for the report."""
        measured = {"measured_ms": self.measured_ms, "share": self.share, "unsure": self.unsure}
        return {"predicted_ms": self.predicted_ms, **measured}


@dataclass
class Tries:
    """All races, and the wanted time."""

    wanted_ns: float
    each: list[Try] = field(default_factory=list)

    @property
    def close(self) -> list[Try]:
        """Return the races near the target, within their error."""
        return [one for one in self.each if abs(math.log(one.true_ns / self.wanted_ns)) <= CLOSE + 2 * one.unsure]

    @property
    def correction(self) -> float:
        """Return the correction of the table for the next race."""
        known = self.close or self.each[-1:]
        return math.exp(sum(one.weight * one.log for one in known) / sum(one.weight for one in known))

    @property
    def unsure(self) -> float:
        """Return the standard error of the correction; infinite if no race was near."""
        if not (close := self.close):
            return math.inf
        squares = sum(one.weight * (one.log - math.log(self.correction)) ** 2 for one in close)
        return math.sqrt(max(1.0, squares / max(len(close) - 1, 1)) / sum(one.weight for one in close))

    def off(self, one: Try) -> float:
        """Return its time, estimated from all races, over the wanted time."""
        return self.correction * one.plain_ns / self.wanted_ns

    @property
    def best(self) -> Try:
        """Return the race nearest to the target."""

        def badness(one: Try) -> float:
            off = self.off(one)
            return abs(math.log(off)) * (SLOWER if off > 1 + NEAR else 1)

        return min(self.each, key=badness)

    @property
    def over(self) -> bool:
        """Return whether a race is near the target, or nothing else is left to try."""
        if len(self.each) >= ROUNDS:
            return True
        if self.unsure <= SURE:
            return abs(math.log(self.off(self.best))) <= NEAR
        stuck = len(self.each) > 1 and bool((self.each[-1].counts == self.each[-2].counts).all())
        return stuck and not self.close

    def known_to_be_slow(self, counts: Counts) -> bool:
        """Return whether these counts were raced and took surely longer than wanted."""
        slow = (one for one in self.each if one.true_ns > self.wanted_ns * math.exp(2 * one.unsure))
        return any((one.counts == counts).all() for one in slow)

    def report(self) -> dict[str, Any]:
        """Return the report on the best race, its time estimated from all races."""
        best = self.best
        scale = self.off(best) * self.wanted_ns / best.true_ns
        return {
            "rounds": [one.to_json() for one in self.each],
            "share": best.share * scale,
            "ms": best.measured_ms * scale,
            "predicted_ms": best.predicted_ms,
            "off": self.off(best) - 1,
            "unsure": self.unsure if self.close else best.unsure,
            "table_error": 1 / (self.correction if self.close else self.each[0].factor) - 1,
        }
