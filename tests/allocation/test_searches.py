"""Every allocator against every plan of small problems: how often it finds the best, and what it leaves unused.

The networks have ranks, blocks that may go, widths in steps, and costs that multiply between neighbours; the curves are
convex, saturated, flat, stepped or any. Allocators that try networks are told the sum of the curves, so that the best
of all plans is known; *misled*, they see each curve times a factor of its own, and only what they try tells the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_problems import NETS, SHAPES, Summed, every, left_over, problem, wasted
from torch import Tensor

from prunec.allocation.depth_scaling import first_layer, tilted
from prunec.allocation.greedy import nearest
from prunec.allocation.multi_budget import spend
from prunec.allocation.oracle import CHEAPER
from prunec.cost.macs import Counts
from prunec.grammar.registry import STRATEGIES
from prunec.grammar.spec import text_of
from prunec.passes.allocators.portfolio import PLAIN
from prunec.selection.indicators import annealed
from prunec.statistics.agreement import Agreement

SEARCHES = ("cap-search", "evolve{generations=4}", "dais{steps=10}")
NEAR = 1.1  # times the error of the best plan
SHARES = (0.3, 0.5, 0.75)


def problems(seeds: int, misled: float = 0.0, shapes: tuple[str, ...] = SHAPES) -> Iterator[Summed]:
    """One of each network and seed; the shares take turns."""
    for place, (net, seed) in enumerate((net, seed) for net in NETS for seed in range(seeds)):
        yield problem(seed, SHARES[(place + seed) % len(SHARES)], shapes, net, misled)


def solved(given: Summed, method: str) -> Counts:
    """Return the counts of an allocator, after checks of budget and waste."""
    counts = spend(given, STRATEGIES["allocators"].make(method))
    assert given.model.total(counts) <= given.allowed
    assert (given.closed(counts) == counts).all()
    assert not left_over(given, counts)
    assert not wasted(given, counts)
    return counts


def ratio(given: Summed, counts: Counts) -> float:
    """The true error over that of the best of all plans."""
    _, costs, errors = every(given.true)
    best = float(errors[costs <= given.allowed].min())
    found = given.error(counts)
    return 1.0 if found <= best + 1e-9 else found / max(best, 1e-12)


@pytest.fixture(autouse=True)
def _indicators_of_true_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anneal indicators for a loss additive in the true curves of spaces."""

    def annealed_curves(method: Any, given: Summed) -> dict[str, Tensor]:
        lost = torch.zeros(given.channels.count + 1)
        for space in given.channels.prunable:
            curve = given.truth.by_space[space.name]
            lost[space.coordinates[curve.order]] = curve.error.diff().float()
        share = given.allowed / given.model.total()
        return annealed(given.channels, lambda _, gates: (lost * (1 - gates)).sum(), share, method.steps, rate=0.2)

    dais = type(STRATEGIES["allocators"].make("dais"))
    monkeypatch.setattr(dais, "indicators", annealed_curves)


@cache
def misled_ones() -> list[tuple[Summed, dict[str, Counts]]]:
    """Return problems with curves off by a factor e, and allocators' plans without trials."""
    return [(given, {name: solved(given, name) for name in CHEAPER}) for given in problems(2, misled=1.0)]


@pytest.mark.parametrize(
    ("method", "shapes", "often"),
    [
        ("knapsack", SHAPES, 0.95),
        ("threshold", SHAPES, 0.5),
        ("threshold", ("convex",), 0.6),
        ("gcro", ("exponential",), 0.5),
    ],
)
def test_the_best_plan_or_one_near_it(method: str, shapes: tuple[str, ...], often: float) -> None:
    ratios = [ratio(given, solved(given, method)) for given in problems(4, shapes=shapes)]
    assert sum(one <= NEAR for one in ratios) >= often * len(ratios)


def test_uniform_is_the_best_of_equal_shares() -> None:
    for given in problems(3):
        found = given.expected(solved(given, "uniform"))
        for share in np.linspace(0, 1, 25):
            counts = np.array([nearest(space, share * space.size) for space in given.channels.prunable])
            assert given.model.total(counts) > given.allowed or found <= given.expected(counts) + 1e-12


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_finds_the_best_from_the_plainest_start(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an equal share of every space, without what the default finds."""
    monkeypatch.setattr("prunec.allocation.oracle.CHEAPER", ("uniform",))
    ratios = [ratio(given, solved(given, method)) for given in problems(3)]
    assert sum(one <= NEAR for one in ratios) >= 0.88 * len(ratios)  # 8 of 9


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_is_never_worse_than_what_tries_no_network(method: str) -> None:
    """By what it is told; and it finds what the curves hide."""
    found, default = [], []
    for given, ends in misled_ones():
        counts = solved(given, method)
        assert all(given.error(counts) <= given.error(end) for end in ends.values())
        found.append(ratio(given, counts))
        default.append(ratio(given, ends["knapsack"]))
    assert sum(one <= NEAR for one in found) >= 5  # of 6
    assert np.mean(found) < np.mean(default)


def test_a_portfolio_is_the_best_of_what_it_hands_on() -> None:
    """Return the best plan under misleading curves, with about a dozen tried networks."""
    portfolio = STRATEGIES["allocators"].make("portfolio")
    better = 0
    for given, ends in misled_ones():
        counts, chosen = solved(given, "portfolio"), portfolio.settled(given)
        assert (counts == solved(given, text_of(chosen))).all()
        assert all(given.error(counts) <= given.error(ends[name]) for name in PLAIN)
        better += given.error(counts) < given.error(ends["knapsack"])
    assert better >= 2  # of 6


def test_a_portfolio_without_a_network_is_the_knapsack() -> None:
    given = next(problems(1)).true
    assert text_of(STRATEGIES["allocators"].make("portfolio").settled(given)) == "knapsack"


def test_a_slope_spares_one_end_of_the_network() -> None:
    """Equal curves in every layer, so that only depth differs."""
    for given in problems(2, shapes=("convex",)):
        depth = np.array([first_layer(given.channels, space) for space in given.channels.prunable])
        flat, late, early = (
            spend(given, STRATEGIES["allocators"].make(f"knapsack{{slope={one}}}")) for one in (0, 4, -4)
        )
        lean = [float((depth * counts / given.model.sizes).sum()) for counts in (early, flat, late)]
        assert lean == sorted(lean)
        for error, steep, place in zip(
            given.errors, tilted(given, 2.0).errors, depth / max(depth.max(), 1), strict=True
        ):
            np.testing.assert_allclose(steep, error * np.exp(2.0 * (2 * place - 1)))


@pytest.mark.parametrize("method", SEARCHES)
def test_what_a_search_returns_is_what_it_tried(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed after its last try, and no network is tried twice."""
    given = next(problems(1, misled=1.0))
    tried: list[tuple[int, ...]] = []

    known = Summed.tried

    def spied(self: Summed, counts: Counts, images: int = 64) -> Agreement:
        tried.append(tuple(counts.tolist()))
        return known(self, counts, images)

    monkeypatch.setattr(Summed, "tried", spied)
    counts = spend(given, STRATEGIES["allocators"].make(method))
    assert tuple(counts.tolist()) in tried
    assert len(tried) == len(set(tried))
    fit = [np.array(one) for one in tried if given.model.total(np.array(one)) <= given.allowed]
    assert given.true.expected(counts) == min(given.true.expected(one) for one in fit)
