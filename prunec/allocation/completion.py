"""Complete counts: bring them within every limit and spend the budget left over.

Steps go down the curves while a limit is exceeded, then up while a step that lowers the error fits: the budget left
unused is less than the smallest such step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..cost.terms import Counts, drop_useless_ranks
from .greedy import afford, give_back
from .problem import UNIT, Allocation

SLACK = 1e-9
TRIES = 4  # beyond the number of limits: a rank may save of one limit and cost of another
ROUNDS = 4  # of steps up: a rank space reset to full rank may free budget


def finished(problem: Allocation, counts: Counts) -> Counts | None:
    """Return counts within all limits and near them; None where there are none.

    Ranks that save nothing, and the spaces inside a removed branch, are full.
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
    """Return the finished counts, changing the spaces in `held` last; None where there are none.

    The other spaces first pay for what exceeds a limit, or spend what is left: a step that a search chose against the
    curves would be the first to be undone.
    """
    errors = list(problem.errors)
    for space in held:
        error, count = errors[space], int(counts[space])
        errors[space] = np.full_like(error, np.inf)
        errors[space][[count, -1]] = error[count]  # full costs no error: useless ranks are reset to full
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
    """Return more counts where all limits allow it, with ranks settled; else unchanged."""
    model, errors, inside = problem.model, problem.errors, problem.inside
    if problem.limits == 1:
        found = give_back(model, errors, counts, problem.allowed, inside=inside)
        settled = problem.closed(drop_useless_ranks(model, found))
        return settled if model.total(settled) <= problem.allowed else counts
    found = give_back(model, errors, counts, np.inf, lambda more: bool(problem.used(more).max() <= 1 + SLACK), inside)
    settled = problem.closed(drop_useless_ranks(model, found))
    return settled if problem.used(settled).max() <= 1 + SLACK else problem.closed(found)
