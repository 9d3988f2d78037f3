"""Bring any counts within every limit and spend what is left, whatever has chosen them.

Down the curves while a limit is overdrawn, then up while a step that lowers the error fits: what remains unused is less
than the smallest such step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..cost.terms import Counts, drop_useless_ranks
from .greedy import afford, give_back
from .problem import UNIT, Allocation

SLACK = 1e-9
TRIES = 4  # more than limits, in paying for what is overdrawn: ranks may save of one and cost of another
ROUNDS = 4  # of giving back: where a rank space that saves nothing is made whole, something may become free


def finished(problem: Allocation, counts: Counts) -> Counts | None:
    """The counts within all limits and near them, or None where the curves lead to none.

    Ranks that save nothing are whole, and so is what is inside a branch that goes.
    """
    found = _down(problem, drop_useless_ranks(problem.model, counts))
    if found is None:
        return None
    for _ in range(ROUNDS):
        more = _up(problem, found)
        if (more == found).all():
            break
        found = more
    return found


def finished_holding(problem: Allocation, counts: Counts, held: npt.NDArray[np.int64]) -> Counts | None:
    """Return the finished counts, changing all spaces other than those held first; None where the curves lead to none.

    The other spaces first make up for what is over a limit or left over: a step that a search has chosen against the
    curves would be the first to be taken back.
    """
    errors = list(problem.errors)
    for space in held:
        error, count = errors[space], int(counts[space])
        errors[space] = np.full_like(error, np.inf)
        errors[space][[count, -1]] = error[count]  # all of it buys nothing, but a rank that saves nothing is whole
    found = finished(problem.with_errors(errors), counts)
    return finished(problem, counts if found is None else found)


def _down(problem: Allocation, counts: Counts) -> Counts | None:
    model, errors, inside = problem.model, problem.errors, problem.inside
    if problem.limits == 1:
        counts = afford(model, errors, counts, problem.allowed, inside)
        return problem.closed(drop_useless_ranks(model, counts)) if model.total(counts) <= problem.allowed else None
    for _ in range(problem.limits + TRIES):
        used = problem.used(counts)
        if used.max() <= 1 + SLACK:
            return problem.closed(counts)
        counts = afford(problem.alone[int(used.argmax())], errors, counts, UNIT, inside)
    return problem.closed(counts) if problem.used(counts).max() <= 1 + SLACK else None


def _up(problem: Allocation, counts: Counts) -> Counts:
    """More where all limits allow it, and the ranks settled; as before where that breaks a limit."""
    model, errors, inside = problem.model, problem.errors, problem.inside
    if problem.limits == 1:
        found = give_back(model, errors, counts, problem.allowed, inside=inside)
        settled = problem.closed(drop_useless_ranks(model, found))
        return settled if model.total(settled) <= problem.allowed else counts
    found = give_back(model, errors, counts, np.inf, lambda more: bool(problem.used(more).max() <= 1 + SLACK), inside)
    settled = problem.closed(drop_useless_ranks(model, found))
    return settled if problem.used(settled).max() <= 1 + SLACK else problem.closed(found)
