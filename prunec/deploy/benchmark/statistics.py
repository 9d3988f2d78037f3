"""Estimate a speedup with its confidence interval and noise floor.

    speedup = median over pairs of  time(A) / time(B)

Memory placement makes sessions of one model differ, so a model is opened several times: times of a pair are means over
the openings, and A against itself is one opening against the rest.

The 95% interval is a moving block bootstrap (Künsch 1989): a disturbance affects consecutive runs, so pairs are drawn
in blocks of about the cube root of their number; single draws would give too narrow an interval.

On a shared machine others may slow all runs for minutes, and not all models alike. `undisturbed` uses the quickest
quarter of pairs, A and B weighted equally, to estimate the speedup on an idle machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

MIN_EFFECT = 0.02  # difference of two sessions of one model by memory placement alone
OPENINGS = 3  # of each model
RESAMPLES = 1000
QUIETEST = 0.25  # share of the pairs
AT_ONCE = 1_000_000  # ratios in memory
Z95 = 1.96  # standard errors to either end of a 95% interval

Times = tuple[float, ...]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Speedup:
    """Ratio of times, first over second, and its 95% interval."""

    ratio: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Return how far the interval reaches from 1: 0.05 for 0.98..1.05 or its reciprocal."""
        return max(self.high, 1 / self.low) - 1

    @property
    def error(self) -> float:
        """Return the standard error as a share of the ratio, assuming a log-normal ratio."""
        return math.log(self.high / self.low) / (2 * Z95)

    def verdict(self, floor: float, name: str = "B") -> str:
        """Return `B is 1.43x faster (1.40..1.46)`, or slower, or no difference."""
        if self.low > 1 + floor:
            return f"{name} is {self.ratio:.2f}x faster ({self.low:.2f}..{self.high:.2f})"
        if self.high < 1 / (1 + floor):
            return f"{name} is {1 / self.ratio:.2f}x slower ({1 / self.high:.2f}..{1 / self.low:.2f})"
        return "no difference above the noise floor"

    def passes(self, gate: float, floor: float) -> bool:
        """Return whether the interval reaches `gate`, and above 1 clears the noise floor."""
        return self.low >= gate and (gate <= 1 or self.low > 1 + floor)


def paired_speedup(a_ms: ArrayLike, b_ms: ArrayLike, seed: int = 0) -> Speedup:
    """Return the median of a/b over pairs in order, with its seeded bootstrap interval."""
    ratios = np.asarray(a_ms) / np.asarray(b_ms)
    count = len(ratios)
    length = round(count ** (1 / 3))
    at_once = max(1, AT_ONCE // count)
    generator, offsets = np.random.default_rng(seed), np.arange(length)
    medians = np.empty(RESAMPLES)
    for done in range(0, RESAMPLES, at_once):
        part = medians[done : done + at_once]
        starts = generator.integers(count, size=(len(part), -(-count // length), 1))
        drawn = (starts + offsets).reshape(len(part), -1)[:, :count] % count
        part[:] = np.median(ratios[drawn], axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return Speedup(float(np.median(ratios)), float(low), float(high))


def undisturbed(a_ms: ArrayLike, b_ms: ArrayLike, seed: int = 0) -> Speedup:
    """Compute the speedup over the quickest pairs, each model in units of its median."""
    a, b = np.asarray(a_ms), np.asarray(b_ms)
    together = a / np.median(a) + b / np.median(b)
    chosen = np.sort(np.argsort(together, kind="stable")[: max(1, round(QUIETEST * len(a)))])
    return paired_speedup(a[chosen], b[chosen], seed)


def spread(openings: Sequence[Times]) -> Times:
    """Interleave the times of several openings: all first, all second, …"""
    return tuple(one for taken in zip(*openings, strict=True) for one in taken)


def middle_mean(samples: Sequence[float]) -> float:
    """Return the mean of the middle half: robust, and finer than the clock's tick."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return sum(middle) / len(middle)


def noise_floor(control: Speedup) -> float:
    """Return the least credible effect, as a share: A's reach against itself, at least `MIN_EFFECT`."""
    return max(control.reach, MIN_EFFECT)
