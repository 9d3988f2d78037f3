"""Allocators: within the budget, near it, and the knapsack against every combination."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from micro import networks

from prunec.capture import capture
from prunec.channels.spaces import Channels
from prunec.compression import prepared
from prunec.constraints import ANY, Constraints
from prunec.cost import Macs
from prunec.errors import BudgetError
from prunec.facts import Curve, Curves
from prunec.registry import STRATEGIES
from prunec.target import Target


def problem(name: str, constraints: Constraints = ANY) -> tuple[Channels, Curves]:
    program = prepared(capture(networks()[name], (torch.randn(2, 3, 12, 12),)), constraints)
    channels = program.fact(Channels)
    generator = torch.Generator().manual_seed(0)
    curves = {}
    for space in channels.prunable:
        steps = torch.rand(space.size, generator=generator, dtype=torch.float64).sort().values * (1 + space.start)
        curves[space.name] = Curve(
            torch.randperm(space.size, generator=generator), torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        )
    return channels, Curves(curves, scaled=True)


@pytest.mark.parametrize(
    ("method", "share"),
    [(method, share) for method in ("uniform", "knapsack") for share in (0.25, 0.5, 0.8)],
)
def test_within_the_budget(method: str, share: float) -> None:
    channels, curves = problem("dense_block")
    counts = STRATEGIES["allocators"].make(method).counts(channels, curves, Target("macs", share))
    model = Macs.of(channels)
    assert model.total(counts) <= share * model.total()
    assert (counts >= 1).all()


@pytest.mark.parametrize("method", ["uniform", "knapsack"])
def test_limits_and_multiples_are_kept(method: str) -> None:
    constraints = Constraints(limits={"b": 0.25, "[ac]": 0.9}, round_to=4)
    channels, curves = problem("dense_block", constraints)
    counts = STRATEGIES["allocators"].make(method).counts(channels, curves, Target("macs", 0.8))
    assert all(count % 4 == 0 or count == size for count, size in zip(counts, Macs.of(channels).sizes, strict=True))
    kept = dict(zip((space.name for space in channels.prunable), counts, strict=True))
    assert kept["b"] >= 3
    assert Macs.of(channels).total(counts) < Macs.of(channels).total()


def test_knapsack_is_near_the_best_of_all_combinations() -> None:
    channels, curves = problem("residual")
    model, target = Macs.of(channels), Target("macs", 0.5)
    errors = [curves.by_space[space.name].error.flip(0) for space in channels.prunable]

    def error(counts: tuple[int, ...]) -> float:
        return sum(float(one[count]) for one, count in zip(errors, counts, strict=True))

    feasible = [
        counts
        for counts in itertools.product(*(range(1, size + 1) for size in model.sizes))
        if model.total(np.array(counts)) <= 0.5 * model.total()
    ]
    found = STRATEGIES["allocators"].make("knapsack").counts(channels, curves, target)
    assert error(tuple(found)) <= 1.1 * min(map(error, feasible))


def test_rounding_that_leaves_no_room_says_so() -> None:
    channels, curves = problem("residual", Constraints(round_to=8))
    with pytest.raises(BudgetError, match="relax --limit or --round-to"):
        STRATEGIES["allocators"].make("knapsack").counts(channels, curves, Target("macs", 0.2))
