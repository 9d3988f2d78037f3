"""Going down to a budget and back up to it, one step of one space at a time: what the allocators share.

A step of a space changes its count n to n'. Its price is the error it adds over the cost it saves,

    price = (e(n') - e(n)) / (cost(n) - cost(n')),        the others fixed,

and of all lower counts the one with the lowest price is tried: curves may be bent, and of a layer that may become two
the first ranks to go may save nothing, so the next count need not be the best step.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .channels.spaces import Space
from .terms import Cost, Counts

Array = npt.NDArray[np.float64]


def descent(model: Cost, errors: Sequence[Array], counts: Counts) -> Iterator[Counts]:
    """The counts after each step down, cheapest first, until nothing may go.

    `errors` are by count kept, infinite where that count may not be. A heap with lazy updates: a step of one space
    makes those of its neighbours save less, so a price that was found earlier is a lower bound.
    """
    counts = counts.copy()
    heap = [(*found, space) for space in range(len(errors)) if (found := _down(model, errors[space], counts, space))]
    heapq.heapify(heap)
    while heap:
        _, _, space = heapq.heappop(heap)
        found = _down(model, errors[space], counts, space)
        if found is None:
            continue
        if heap and found > heap[0][:2]:
            heapq.heappush(heap, (*found, space))
            continue
        counts[space] = -found[1]
        yield counts.copy()
        if (more := _down(model, errors[space], counts, space)) is not None:
            heapq.heappush(heap, (*more, space))


def afford(model: Cost, errors: Sequence[Array], counts: Counts, allowed: int) -> Counts:
    """The counts after the fewest steps down that meet the budget; after all of them where none does."""
    if model.total(counts) <= allowed:
        return counts
    for found in descent(model, errors, counts):
        counts = found
        if model.total(found) <= allowed:
            break
    return counts


def give_back(
    model: Cost,
    errors: Sequence[Array],
    counts: Counts,
    allowed: float,
    fits: Callable[[Counts], bool] = lambda _: True,
) -> Counts:
    """Add coordinates, best error for its cost first, while they fit."""
    counts = counts.copy()
    while True:
        total, best = model.total(counts), (0.0, -1, 0)
        for space, error in enumerate(errors):
            along = model.touched_along(counts, space)
            more = _up(error, along, int(counts[space]))
            if more is None:
                continue
            added = float(along[more] - along[counts[space]])
            gain = float(error[counts[space]] - error[more]) / max(added, 1.0)
            if total + added <= allowed and gain > best[0] and fits(with_count(counts, space, more)):
                best = (gain, space, more)
        if best[1] < 0:
            return counts
        counts[best[1]] = best[2]


def with_count(counts: Counts, space: int, count: int) -> Counts:
    """A copy in which so many coordinates of one space stay."""
    changed = counts.copy()
    changed[space] = count
    return changed


def nearest(space: Space, count: float) -> int:
    """The largest count above 0 that may stay and is no larger than this one, or the fewest such."""
    found, fewest = min(int(np.floor(count + 1e-9)), space.size), max(space.fewest, 1)
    while found > fewest and not space.may_keep(found):
        found -= 1
    return max(found, fewest)


def _down(model: Cost, error: Array, counts: Counts, space: int) -> tuple[float, int] | None:
    """The price of the best step down and, negated, the count that it leads to; of equals the shortest step."""
    now = int(counts[space])
    lower = np.isfinite(error[:now]).nonzero()[0][::-1]
    if not len(lower):
        return None
    along = model.along(counts, space)
    saved = along[now] - along[lower]
    lower, saved = lower[saved > 0.5], saved[saved > 0.5]
    if not len(lower):
        return None
    price = (error[lower] - error[now]) / saved
    best = int(price.argmin())
    return float(price[best]), -int(lower[best])


def _up(error: Array, along: Array, count: int) -> int | None:
    """The next larger count that may be kept; all of them where that costs no more than all."""
    larger = np.isfinite(error[count + 1 :]).nonzero()[0]
    if not len(larger):
        return None
    more = count + 1 + int(larger[0])
    return more if along[more] < along[-1] else len(error) - 1
