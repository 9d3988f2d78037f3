"""Solve the multiple-choice knapsack: one count of each space, with separable costs.

    min sum_s e_s(n_s)   subject to   sum_s c_s(n_s) <= budget

by dynamic programming over the cost in at most `cells` steps, each c rounded up (Kellerer, Pferschy, Pisinger 2004,
chapter 11). Curves need not be convex: it also finds counts above the hull, which no multiplier finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Choice = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]  # counts, their cells, their errors


def choose(costs: Sequence[Array], errors: Sequence[Array], budget: float, cells: int = 4096) -> list[int] | None:
    """Return the count of each space; None where no counts fit. Errors are infinite at counts not allowed."""
    least = [float(cost[np.isfinite(error)].min()) for cost, error in zip(costs, errors, strict=True)]
    room = budget - sum(least)
    if room < 0:
        return None
    cell = max(room / cells, 1.0)  # costs are integers
    choices = [
        _choice((cost - low) / cell, error, cells) for cost, error, low in zip(costs, errors, least, strict=True)
    ]
    best = np.zeros(cells + 1)
    taken = np.zeros((len(choices), cells + 1), dtype=np.int32)
    for place, (_, weights, losses) in enumerate(choices):
        found = np.full(cells + 1, np.inf)
        for number, (weight, loss) in enumerate(zip(weights, losses, strict=True)):
            tried = best[: cells + 1 - weight] + loss
            better = tried < found[weight:]
            found[weight:][better] = tried[better]
            taken[place, weight:][better] = number
        best = found
    left, counts = min(cells, int(room / cell)), []
    for place in reversed(range(len(choices))):
        number = int(taken[place, left])
        counts.append(int(choices[place][0][number]))
        left -= int(choices[place][1][number])
    return counts[::-1]


def _choice(cost: Array, error: Array, cells: int) -> Choice:
    """Return the counts not dominated in both cells and error, cheapest first."""
    weight = np.ceil(np.maximum(cost, 0.0) - 1e-9)
    counts = (np.isfinite(error) & (weight <= cells)).nonzero()[0]
    counts = counts[np.lexsort((error[counts], weight[counts]))]
    lowest = np.minimum.accumulate(error[counts])
    better = np.append(True, lowest[1:] < lowest[:-1])
    counts = counts[better]
    return counts, weight[counts].astype(np.int64), error[counts]
