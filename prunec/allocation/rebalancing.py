"""Improve counts by local search: move one space, rebalance the others, keep improvements.

A move is first estimated: the room that it leaves, or lacks, is spent on the hulls of the other curves,

    estimate(s, n) = e_s(n) - e_s(now) + other(cost(now) + room - cost(n)),      others' best change for that cost

and the best moves are tried in full: the move, then down to the budget, then up to it. This reaches counts between the
ends of a flat curve, and several spaces that have to change at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..cost.terms import Counts
from .completion import finished, finished_holding
from .greedy import with_count
from .problem import Allocation, Array

Error = Callable[[Counts], float]
NEARER = 1e-9  # relative: a smaller gain of error is none


def rebalanced(problem: Allocation, counts: Counts, tries: int, error: Error | None = None) -> Counts:
    """Return counts at least as good, after at most `tries` networks.

    Stops early where none of the best moves helps. `error` judges the counts, by default the curves; where it is given,
    no curve undoes a move.
    """
    judged = problem.expected if error is None else error
    lowest = judged(counts)
    while tries > 0:  # ends: each round takes a try, or is the last
        for moved in itertools.islice(_moves(problem, counts, min(tries, 2 * len(counts) + 8)), tries):
            tries -= 1
            if error is None:
                found = finished(problem, moved)
            else:
                found = finished_holding(problem, moved, (moved != counts).nonzero()[0])
            if found is not None and (tried := judged(found)) < lowest * (1 - NEARER):
                counts, lowest = found, tried
                break
        else:
            break
    return counts


def _moves(problem: Allocation, counts: Counts, most: int) -> Iterator[Counts]:
    """Yield at most `most` moves, best estimate first; then pairs of them. Few are of one space."""
    model, errors = problem.model, problem.errors
    room = problem.allowed - model.total(counts)
    curves = [_Moves.of(model.touched_along(counts, space), error, int(counts[space]))
              for space, error in enumerate(errors)]  # fmt: skip
    others = _Others(curves)
    ranked: list[tuple[float, int, int]] = []
    for space, curve in enumerate(curves):
        worth = curve.loss + others.change(space, room - curve.cost)
        order = np.argsort(worth, kind="stable")[: max(2, most // len(curves))]
        ranked += [(float(worth[place]), space, int(curve.counts[place])) for place in order]
    ranked = sorted(one for one in ranked if np.isfinite(one[0]))[:most]
    for _, space, count in ranked:
        yield with_count(counts, space, count)
    pairs = itertools.combinations(range(len(ranked)), 2)
    for first, second in sorted(pairs, key=lambda pair: (sum(pair), pair)):
        (_, space, count), (_, other, its) = ranked[first], ranked[second]
        if space != other:
            yield with_count(with_count(counts, space, count), other, its)


class _Moves:
    """Other counts of one space: the cost and the error that each adds."""

    def __init__(self, counts: Counts, cost: Array, loss: Array) -> None:
        self.counts, self.cost, self.loss = counts, cost, loss

    @staticmethod
    def of(along: Array, error: Array, now: int) -> _Moves:
        counts = np.isfinite(error).nonzero()[0]
        counts = counts[counts != now]
        return _Moves(counts, along[counts] - along[now], error[counts] - error[now])

    def steps(self, down: bool) -> tuple[Array, Array]:
        """Return cost and loss of each step along the hull, signed by direction."""
        side = self.cost < 0 if down else self.cost > 0
        cost, loss = np.abs(self.cost[side]), self.loss[side]
        order = np.lexsort((loss, cost))
        hull = [(0.0, 0.0)]
        for x, y in zip(cost[order], loss[order], strict=True):
            while len(hull) > 1 and _above(hull[-2], hull[-1], (x, y)):  # ends: each round one point fewer
                hull.pop()
            if x > hull[-1][0]:
                hull.append((float(x), float(y)))
        points = np.array(hull)
        steps = np.diff(points, axis=0)
        kept = steps[:, 1] < 0 if not down else np.ones(len(steps), dtype=bool)
        return steps[kept, 0], steps[kept, 1]


class _Others:
    """The least error that the other spaces add for a change of cost."""

    def __init__(self, curves: Sequence[_Moves]) -> None:
        self.ways = [self._sorted([curve.steps(down) for curve in curves]) for down in (True, False)]

    @staticmethod
    def _sorted(steps: Sequence[tuple[Array, Array]]) -> tuple[Counts, Array, Array]:
        owner = np.repeat(np.arange(len(steps)), [len(cost) for cost, _ in steps])
        cost, loss = (np.concatenate([one[part] for one in steps]) for part in (0, 1))
        order = np.argsort(loss / cost, kind="stable")
        return owner[order], cost[order], loss[order]

    def change(self, space: int, room: Array) -> Array:
        """Compute the change of the others' error by their room, negative where they must save."""
        (owner, cost, loss), (up_owner, up_cost, up_loss) = self.ways
        mine, up_mine = owner != space, up_owner != space
        give, lost = _sums(cost[mine]), _sums(loss[mine])
        spend, gained = _sums(up_cost[up_mine]), _sums(up_loss[up_mine])
        paid = np.where(-room > give[-1], np.inf, np.interp(-room, give, lost))
        found: Array = np.where(room < 0, paid, np.interp(room, spend, gained))
        return found


def _above(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Return whether the middle point lies on or above the line between the others."""
    across = (middle[0] - first[0]) * (last[1] - first[1]) - (middle[1] - first[1]) * (last[0] - first[0])
    return bool(across <= 0)


def _sums(values: Array) -> Array:
    return np.append(0.0, values.cumsum())
