"""Choose hardware-friendly widths within a budget; report the error they add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..channels.spaces import Channels
from ..cost.terms import Counts
from ..errors import BudgetError
from ..grammar.registry import STRATEGIES
from ..grammar.spec import text_of
from ..request.constraints import AUTO, Constraints
from .alignment import Alignment
from .interface import Allocator
from .multi_budget import one_limit, spend
from .problem import Allocation

SPENT = 0.9  # of what any width would use: wide steps in a small network can leave half of it


def aligned(
    problem: Allocation, method: Allocator, constraints: Constraints, blocks: Channels | None = None
) -> tuple[Counts, dict[str, Any]]:
    """Return counts at aligned widths, int64 [spaces], and the report of the alignment.

    `blocks` are the spaces as `auto` has them where a latency table knows the steps (`prunec.latency.blocks`).
    Otherwise steps that cannot meet the target are halved, down to those that the user requires; steps of `auto` also
    where they leave much of the target unused. `error` and `error_unaligned` are predicted by the curves, with these
    counts and with those that the same allocator chooses among all widths. Raises BudgetError where no widths meet the
    target.
    """
    if blocks is not None and constraints.align == AUTO:
        return _in_blocks(problem, method, blocks)
    wanted = Alignment.parse(constraints.align)
    if wanted is None or (constraints.align == AUTO and constraints.round_to > 1):  # the user's multiples are enough
        return _spent(problem, method)
    knapsack = STRATEGIES["allocators"].make("knapsack")
    weighed = one_limit(problem)
    free = spend(weighed, knapsack)  # raises where the target is out of reach
    enough = SPENT * problem.used(free).max() if constraints.align == AUTO else 0.0
    for one in wanted.finer():
        narrow = replace(problem, channels=one.apply(problem.channels), start=weighed.weights)
        try:
            counts, chosen = _chosen(narrow, method)
        except BudgetError:
            continue
        if problem.used(counts).max() >= enough:
            widest = free if chosen == knapsack else spend(weighed, chosen)
            told = _told(problem, wanted, one, counts, widest)
            return counts, {"allocator": text_of(chosen), "alignment": told}
    counts, how = _spent(weighed, method)
    return counts, how | {"alignment": {"name": wanted.name, "gave_way": "to any width"}}


def _in_blocks(problem: Allocation, method: Allocator, blocks: Channels) -> tuple[Counts, dict[str, Any]]:
    try:
        return _spent(replace(problem, channels=blocks), method)
    except BudgetError:
        return _spent(problem, method)


def _spent(problem: Allocation, method: Allocator) -> tuple[Counts, dict[str, Any]]:
    counts, chosen = _chosen(problem, method)
    return counts, {"allocator": text_of(chosen)}


def _chosen(problem: Allocation, method: Allocator) -> tuple[Counts, Allocator]:
    problem = one_limit(problem)
    chosen = method.settled(problem)
    return spend(problem, chosen), chosen


def _told(problem: Allocation, wanted: Alignment, used: Alignment, counts: Counts, free: Counts) -> dict[str, Any]:
    steps = sorted({space.step for space in used.apply(problem.channels).prunable})
    found = {"name": wanted.name, "steps": steps, "error": problem.expected(counts)}
    found["error_unaligned"] = problem.expected(free)
    if used == wanted:
        return found
    if used.most == wanted.most:
        return {**found, "gave_way": f"to fewer than {wanted.fewest} channels a layer"}
    return {**found, "gave_way": f"from multiples of {wanted.most} to {used.most}"}
