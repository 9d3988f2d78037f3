"""How many times faster, how sure that is, and when it is worth saying.

    speedup = median over pairs of  time(A) / time(B)

A model is opened several times, since where its memory lies makes a session 1 to 2% faster or slower than another of
the same model: the times of a pair are means over the openings, and A against itself is one opening against the rest.

The 95% interval is a moving block bootstrap (Künsch 1989): what disturbs one run, heat or another process, disturbs the
next ones too, so pairs are drawn in stretches of about the cube root of their number; one by one they would promise an
interval that is too narrow.

On a shared machine others may slow all runs for minutes, and not all models alike. `undisturbed` asks the quarter of
the pairs that took least time, A and B weighing the same: an estimate of what the machine does with nobody else on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_EFFECT = 0.02  # two sessions of one model differ by this much through memory placement alone
OPENINGS = 3  # of each model
RESAMPLES = 1000
QUIETEST = 0.25  # of the pairs
AT_ONCE = 1_000_000  # ratios in memory
Z95 = 1.96  # standard errors to either end of a 95% interval

Times = tuple[float, ...]


@dataclass(frozen=True)
class Speedup:
    """A ratio of times, first over second, and its 95% interval."""

    ratio: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """How far the interval reaches from 1, in either direction: 0.05 for 0.98..1.05, and for its reciprocal."""
        return max(self.high, 1 / self.low) - 1

    @property
    def error(self) -> float:
        """The standard error as a share of the ratio, were its logarithm normal."""
        return math.log(self.high / self.low) / (2 * Z95)

    def verdict(self, floor: float, name: str = "B") -> str:
        """`B is 1.43x faster (1.40..1.46)`, or slower, or that the interval does not clear the noise floor."""
        if self.low > 1 + floor:
            return f"{name} is {self.ratio:.2f}x faster ({self.low:.2f}..{self.high:.2f})"
        if self.high < 1 / (1 + floor):
            return f"{name} is {1 / self.ratio:.2f}x slower ({1 / self.high:.2f}..{1 / self.low:.2f})"
        return "no difference above the noise floor"

    def passes(self, gate: float, floor: float) -> bool:
        """Return whether the whole interval is `gate` or above; a gate above 1 has to clear the noise floor too."""
        return self.low >= gate and (gate <= 1 or self.low > 1 + floor)


def paired_speedup(a_ms: Times, b_ms: Times, seed: int = 0) -> Speedup:
    """The median of a/b over pairs, in the order they were taken, and its interval; the same for the same seed."""
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


def undisturbed(a_ms: Times, b_ms: Times, seed: int = 0) -> Speedup:
    """Compute the speedup over the pairs in which both together were fastest, each in units of its own median."""
    a, b = np.asarray(a_ms), np.asarray(b_ms)
    together = a / np.median(a) + b / np.median(b)
    chosen = np.sort(np.argsort(together, kind="stable")[: max(1, round(QUIETEST * len(a)))])
    return paired_speedup(tuple(a[chosen].tolist()), tuple(b[chosen].tolist()), seed)


def spread(openings: Sequence[Times]) -> Times:
    """The times of several openings in turn: the first of each, the second of each, …"""
    return tuple(one for taken in zip(*openings, strict=True) for one in taken)


def grouped(times: Times, openings: int) -> Times:
    """The mean over the openings of what `spread` gave."""
    rows = np.asarray(times).reshape(-1, openings)
    return tuple(rows.mean(1).tolist())


def middle_mean(samples: Sequence[float]) -> float:
    """The mean of the middle half: as robust as a median, and finer than the clock that took the samples."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return sum(middle) / len(middle)


def noise_floor(control: Speedup) -> float:
    """The least effect that is believed, as a share: the reach of A against A, `MIN_EFFECT` at least."""
    return max(control.reach, MIN_EFFECT)
