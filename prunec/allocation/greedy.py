"""Greedy steps down to a budget and back up, shared by the allocators.

A step changes the count n of one space to n'. Its price is the error it adds over the cost it saves,

    price = (e(n') - e(n)) / (cost(n) - cost(n')),        the others fixed.

Each step takes the best price over all counts, not the next count: curves may be bent or flat in parts, and the first
ranks removed from a factored layer may save nothing. Removing a residual branch removes the errors of all spaces
inside it (`inside`); a restored one gets the counts inside it of the best error for their cost.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ..channels.spaces import Space
from ..cost.terms import Cost, Counts, drop_useless_ranks

Array = npt.NDArray[np.float64]
Inside = Mapping[int, Sequence[int]]  # index of the space of a branch → indices of the spaces inside it
Fits = Callable[[Counts], bool]
Step = tuple[float, float, Counts]  # gain for its cost, cost, counts after it
NO_BRANCHES: Inside = MappingProxyType({})
LEAST = 0.5  # costs are integers: a smaller difference is 0


def descent(model: Cost, errors: Sequence[Array], counts: Counts, inside: Inside = NO_BRANCHES) -> Iterator[Counts]:
    """Yield the counts after each step down, cheapest first, int64 [spaces].

    `errors` are by count kept, infinite where a count is not allowed. A heap with lazy updates: a step of one space
    lowers the savings of its neighbours, so an earlier price is a lower bound; the price of a branch falls with each
    step inside it, and is computed again.
    """
    for found, _ in _steps_down(model, errors, counts, inside):
        yield found.copy()


def afford(
    model: Cost, errors: Sequence[Array], counts: Counts, allowed: float, inside: Inside = NO_BRANCHES
) -> Counts:
    """Return the counts after the fewest steps down that meet the budget, else after all."""
    total = float(model.total(counts))
    if total <= allowed:
        return counts
    lower = counts
    for lower, saved in _steps_down(model, errors, counts, inside):
        total -= saved
        if total <= allowed + 1 and model.total(lower) <= allowed:
            break
    return lower.copy()


def _steps_down(
    model: Cost, errors: Sequence[Array], counts: Counts, inside: Inside, spaces: Iterable[int] | None = None
) -> Iterator[tuple[Counts, float]]:
    """Yield the counts after each step (one array, updated in place) and the cost saved.

    Terminates: each step lowers a count, and a step whose price rose is pushed back once before the next is taken.
    """
    counts = counts.copy()
    branch_of = {space: branch for branch, spaces in inside.items() for space in spaces}
    heap: list[tuple[float, int, int]] = []

    def push(space: int) -> None:
        if (found := _down(model, _loss(errors, counts, space, inside), counts, space)) is not None:
            heapq.heappush(heap, (*found, space))

    for space in range(len(errors)) if spaces is None else spaces:
        push(space)
    while heap:
        _, _, space = heapq.heappop(heap)
        found = _down(model, _loss(errors, counts, space, inside), counts, space)
        if found is None:
            continue
        if heap and found > heap[0][:2]:
            heapq.heappush(heap, (*found, space))
            continue
        along = model.touched_along(counts, space)
        saved = float(along[counts[space]] - along[-found[1]])
        counts[space] = -found[1]
        yield counts, saved
        for more in dict.fromkeys((space, branch_of.get(space, space))):
            push(more)


def give_back(
    model: Cost,
    errors: Sequence[Array],
    counts: Counts,
    allowed: float,
    fits: Fits = lambda _: True,
    inside: Inside = NO_BRANCHES,
) -> Counts:
    """Add coordinates, best error per cost first, while a step that lowers the error fits."""
    counts, before = counts.copy(), None
    while before is None or (counts != before).any():  # ends: each round lowers the error, of finitely many
        before = counts.copy()
        counts = _raised(model, errors, counts, allowed, fits, inside)
    return counts


def with_count(counts: Counts, space: int, count: int) -> Counts:
    """Return a copy with `count` coordinates of one space kept."""
    changed = counts.copy()
    changed[space] = count
    return changed


def nearest(space: Space, count: float) -> int:
    """Return the largest allowed count above 0 and at most `count`, or the fewest allowed."""
    found, fewest = min(int(np.floor(count + 1e-9)), space.size), max(space.fewest, 1)
    while found > fewest and not space.may_keep(found):  # ends: it falls by one
        found -= 1
    return max(found, fewest)


def _loss(errors: Sequence[Array], counts: Counts, space: int, inside: Inside) -> Array:
    """Compute the error by count of one space; a kept branch adds those inside it."""
    if space not in inside:
        return errors[space]
    found = errors[space].copy()
    found[1:] += sum(float(errors[one][counts[one]]) for one in inside[space])
    return found


def _down(model: Cost, error: Array, counts: Counts, space: int) -> tuple[float, int] | None:
    """Return the price of the best step down and its negated count; shortest on ties."""
    now = int(counts[space])
    lower = np.isfinite(error[:now]).nonzero()[0][::-1]
    if not len(lower):
        return None
    along = model.touched_along(counts, space)
    saved = along[now] - along[lower]
    lower, saved = lower[saved > LEAST], saved[saved > LEAST]
    if not len(lower):
        return None
    price = (error[lower] - error[now]) / saved
    best = int(price.argmin())
    return float(price[best]), -int(lower[best])


def _raised(model: Cost, errors: Sequence[Array], counts: Counts, allowed: float, fits: Fits, inside: Inside) -> Counts:
    """Return the counts after steps up, from a heap with lazy updates.

    Terminates: each step lowers the error of a space or restores a branch, which is then kept.
    """
    room = allowed - model.total(counts)

    def step(space: int) -> Step | None:
        if space in inside and not counts[space]:
            return _revived(model, errors, counts, space, inside[space], room, fits)
        return _up(model, errors[space], counts, space, room, fits)

    heap = [(-found[0], space) for space in range(len(errors)) if (found := step(space)) is not None]
    heapq.heapify(heap)
    while heap:
        _, space = heapq.heappop(heap)
        found = step(space)
        if found is None:
            continue
        if heap and -found[0] > heap[0][0]:
            heapq.heappush(heap, (-found[0], space))
            continue
        _, added, counts = found
        room -= added
        if (more := step(space)) is not None:
            heapq.heappush(heap, (-more[0], space))
    return counts


def _up(model: Cost, error: Array, counts: Counts, space: int, room: float, fits: Fits) -> Step | None:
    """Return the best step up that fits."""
    now = int(counts[space])
    larger = now + 1 + np.isfinite(error[now + 1 :]).nonzero()[0]
    gain = error[now] - error[larger]
    larger, gain = larger[gain > 0], gain[gain > 0]
    if not len(larger):
        return None
    along = model.touched_along(counts, space)
    added = along[larger] - along[now]
    near = added <= room + LEAST
    larger, added, rate = larger[near], added[near], (gain / np.maximum(added, LEAST))[near]
    for place in _in_turn(rate):
        found = with_count(counts, space, int(larger[place]))
        if _has_room(model, counts, found, float(added[place]), room) and fits(found):
            return float(rate[place]), float(added[place]), found
    return None


def _has_room(model: Cost, counts: Counts, found: Counts, added: float, room: float) -> bool:
    """Return whether the cost fits the room; where rounding may matter, by the totals."""
    return added <= room - 1 or (added <= room + 1 and model.total(found) - model.total(counts) <= room)


def _in_turn(rate: Array) -> Iterator[int]:
    """Yield the indices of the steps to try: the best rate, the longest, then ever shorter ones."""
    if not len(rate):
        return
    place = int(rate.argmax())
    yield place
    yield len(rate) - 1
    while place > 0:  # ends: it halves
        place //= 2
        yield place


def _revived(
    model: Cost, errors: Sequence[Array], counts: Counts, branch: int, spaces: Sequence[int], room: float, fits: Fits
) -> Step | None:
    """Restore a branch with the counts inside it of the best gain per cost."""
    whole = with_count(counts, branch, 1)
    whole[list(spaces)] = [np.isfinite(errors[one]).argmax() for one in spaces]
    if model.total(drop_useless_ranks(model, whole)) - model.total(counts) > room + 1:  # not even the fewest fit
        return None
    whole[list(spaces)] = model.sizes[list(spaces)]
    gone = float(errors[branch][0] - errors[branch][1])
    added = float(model.total(whole) - model.total(counts))
    best: Step | None = None
    for found, saved in itertools.chain([(whole, 0.0)], _steps_down(model, errors, whole, NO_BRANCHES, spaces)):
        added -= saved
        gain = gone - sum(float(errors[one][found[one]]) for one in spaces)
        rate = gain / max(added, LEAST)
        if gain <= 0:
            break
        if (best is None or rate > best[0]) and _has_room(model, counts, found, added, room) and fits(found):
            best = rate, added, found.copy()
    return best
