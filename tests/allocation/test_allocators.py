"""Allocators: within the budget, near it, and the knapsack against every combination."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from programs import captured
from small_problems import left_over

from prunec.allocation.greedy import afford, descent, give_back
from prunec.allocation.multi_budget import spend
from prunec.allocation.problem import Allocation
from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.cost.macs import Counts, Macs
from prunec.cost.terms import drop_useless_ranks
from prunec.data.images import as_images
from prunec.errors import BudgetError, PassError
from prunec.grammar.registry import STRATEGIES
from prunec.ir import graph
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.constraints import ANY, Constraints
from prunec.request.target import Target
from prunec.statistics.agreement import Agreement
from prunec.statistics.facts import Curve, Curves


def problem(name: str, constraints: Constraints = ANY) -> tuple[Channels, Curves]:
    program = prepared(captured(name), constraints)
    channels = program.fact(Channels)
    generator = torch.Generator().manual_seed(0)
    curves = {}
    for space in channels.prunable:
        steps = torch.rand(space.size, generator=generator, dtype=torch.float64).sort().values * (1 + space.start)
        curves[space.name] = Curve(
            torch.randperm(space.size, generator=generator), torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        )
    return channels, Curves(curves, scaled=True)


BLIND = ("uniform", "knapsack", "threshold", "gcro")  # that try no network
TRYING = ("cap-search{calls=31}", "evolve{generations=2,population=4}", "dais{steps=30}")
IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def total(errors: list[np.ndarray[Any, Any]], counts: Counts) -> float:
    return sum(float(error[count]) for error, count in zip(errors, counts, strict=True))


@cache
def known(name: str, passes: str = "calibrate,select,sensitivity", limit: float = 1.0, round_to: int = 1) -> Allocation:
    """A problem with everything: a program, statistics, images."""
    constraints = Constraints(limits={"a": limit}, round_to=round_to)
    program = prepared(captured(name), constraints)
    context = Context(Target("macs", 0.5), constraints, as_images(IMAGES))
    program = Pipeline.parse(passes).run(program, context)
    return Allocation(program.fact(Channels), program.fact(Curves), context.wanted(), program, context)


def check(found: Counts, given: Allocation) -> None:
    assert found.dtype == np.int64
    assert given.model.total(found) <= given.allowed
    assert all(space.may_keep(int(count)) for space, count in zip(given.channels.prunable, found, strict=True))
    assert (found >= 1).all()


@pytest.mark.parametrize(
    ("method", "share"),
    [(method, share) for method in BLIND for share in (0.25, 0.5, 0.8)],
)
def test_within_the_budget(method: str, share: float) -> None:
    channels, curves = problem("dense_block")
    counts = STRATEGIES["allocators"].make(method).counts(Allocation(channels, curves, Target("macs", share)))
    model = Macs.of(channels)
    assert model.total(counts) <= share * model.total()
    assert (counts >= 1).all()


@pytest.mark.parametrize("method", BLIND)
def test_limits_and_multiples_are_kept(method: str) -> None:
    constraints = Constraints(limits={"b": 0.25, "[ac]": 0.9}, round_to=4)
    channels, curves = problem("dense_block", constraints)
    counts = STRATEGIES["allocators"].make(method).counts(Allocation(channels, curves, Target("macs", 0.8)))
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
    found = STRATEGIES["allocators"].make("knapsack").counts(Allocation(channels, curves, target))
    assert error(tuple(found)) <= 1.1 * min(map(error, feasible))


def test_rounding_that_leaves_no_room_says_so() -> None:
    channels, curves = problem("residual", Constraints(round_to=8))
    with pytest.raises(BudgetError, match="relax --limit or --round-to"):
        STRATEGIES["allocators"].make("knapsack").counts(Allocation(channels, curves, Target("macs", 0.2)))


@pytest.mark.parametrize("method", ["knapsack", "threshold", "gcro"])
@pytest.mark.parametrize("name", ["dense_block", "residual", "plain"])
def test_no_worse_than_uniform_where_curves_differ(method: str, name: str) -> None:
    channels, curves = problem(name)
    given = Allocation(channels, curves, Target("macs", 0.5))
    found, uniform = (STRATEGIES["allocators"].make(each).counts(given) for each in (method, "uniform"))
    assert total(given.errors, found) <= total(given.errors, uniform)


@pytest.mark.parametrize("method", [*BLIND, *TRYING])
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_ranks_and_channels_share_the_budget(method: str, share: float) -> None:
    given = known("residual", "calibrate,select,ranks,sensitivity")
    given = replace(given, target=Target("macs", share))
    assert any(not space.sites for space in given.channels.prunable)
    check(drop_useless_ranks(given.model, STRATEGIES["allocators"].make(method).counts(given)), given)


@pytest.mark.parametrize("method", [*BLIND, *TRYING])
def test_ranks_channels_and_blocks_that_may_go_leave_nothing_over(method: str) -> None:
    given = known("residual", "calibrate,select,ranks,branches,sensitivity")
    given = replace(given, target=Target("macs", 0.45))
    assert {given.channels.kind_of(space) for space in given.channels.prunable} == {"channels", "ranks", "branch"}
    found = spend(given, STRATEGIES["allocators"].make(method))
    assert given.model.total(found) <= given.allowed
    assert not left_over(given, found)
    assert given.expected(spend(given, STRATEGIES["allocators"].make("knapsack"))) <= given.expected(found)


@pytest.mark.parametrize("times", [5, 20])
def test_the_runs_of_cap_search_are_as_short_in_a_large_network(times: int) -> None:
    channels = known("residual", "calibrate,select,ranks,sensitivity").channels
    large = replace(channels, spaces=channels.spaces * times)
    runs = STRATEGIES["allocators"].make("cap-search")._runs(large)
    assert len(runs) >= len(large.prunable) // 2
    assert sorted(itertools.chain(*runs)) == list(range(len(large.prunable)))


def test_cap_search_finds_better_than_its_start_where_the_curves_mislead() -> None:
    given = known("concatenation")  # a and b are read side by side
    dear = dict(given.curves.by_space)
    dear["b"] = replace(dear["b"], error=dear["b"].error * 1e3)  # which is not so
    misled = replace(given, curves=Curves(dear, scaled=True), target=Target("macs", 0.6))
    start = spend(misled, STRATEGIES["allocators"].make("threshold"))
    found = STRATEGIES["allocators"].make("cap-search{images=32}").counts(misled)
    assert misled.error(found) < 0.9 * misled.error(start)


@pytest.mark.parametrize("method", TRYING)
def test_those_that_try_networks_keep_limits_and_multiples(method: str) -> None:
    given = replace(known("residual", limit=0.5, round_to=4), target=Target("macs", 0.7))
    found = STRATEGIES["allocators"].make(method).counts(given)
    check(found, given)
    assert (found == STRATEGIES["allocators"].make(method).counts(given)).all()  # the same seed gives the same


@pytest.mark.parametrize("method", TRYING)
def test_those_that_try_networks_say_what_they_need(method: str) -> None:
    channels, curves = problem("residual")
    with pytest.raises(PassError, match="given none"):
        STRATEGIES["allocators"].make(method).counts(Allocation(channels, curves, Target("macs", 0.5)))


@pytest.mark.parametrize("method", ["cap-search{calls=31}", "evolve{generations=2,population=4}"])
def test_trying_networks_is_never_worse_than_what_it_starts_from(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = known("depthwise")
    calls, oracle = [], Allocation.tried

    def counted(self: Allocation, counts: Counts, images: int = 64) -> Agreement:
        calls.append(tuple(counts))
        return oracle(self, counts, images)

    monkeypatch.setattr(Allocation, "tried", counted)
    found = STRATEGIES["allocators"].make(method).counts(given)
    assert 0 < len(calls) <= 31
    assert len(calls) == len(set(calls))  # none twice
    if method.startswith("evolve"):
        start = drop_useless_ranks(given.model, STRATEGIES["allocators"].make("knapsack").counts(given))
    else:
        descended = afford(given.model, given.errors, given.model.sizes.copy(), given.allowed)
        start = drop_useless_ranks(given.model, give_back(given.model, given.errors, descended, given.allowed))
    assert given.error(found) <= given.error(start)


def test_dais_gives_up_the_space_that_the_outputs_do_not_feel() -> None:
    given = known("concatenation")  # a and b are read side by side
    assert given.program is not None
    weight = graph.attribute(given.program.module, "c.weight").clone()
    weight[:, 8:] *= 1e-3  # what reads b
    module = graph.rebuild(given.program.module, {"c.weight": weight})
    deaf = replace(given, program=replace(given.program, module=module), target=Target("macs", 0.7))
    names = [space.name for space in given.channels.prunable]
    found = dict(zip(names, STRATEGIES["allocators"].make("dais").counts(deaf), strict=True))
    assert found["b"] <= 2
    assert found["a"] >= 6


def test_threshold_ranks_by_score_per_mac_and_loses_at_most_its_share() -> None:
    channels, curves = problem("plain")
    low, high = (space.name for space in channels.prunable)
    scored = {
        low: replace(curves.by_space[low], score=torch.zeros(12).double()),
        high: replace(curves.by_space[high], score=torch.ones(10).double()),
    }
    given = Allocation(channels, Curves(scored, scaled=True), Target("macs", 0.5))
    first, second = STRATEGIES["allocators"].make("threshold{most=0.75}").counts(given)
    assert first < 12
    assert second == 10  # all of the first goes before any of the second
    tight = replace(given, target=Target("macs", 0.2))
    assert STRATEGIES["allocators"].make("threshold{most=0.75}").counts(tight)[0] == 3
    assert STRATEGIES["allocators"].make("threshold{most=1}").counts(tight)[0] < 3


def test_gcro_recovers_the_optimum_of_exponential_curves() -> None:
    channels, _ = problem("plain")
    curves = {}
    for space, level, steep in zip(channels.prunable, (1e-3, 1e-1), (4.0, 2.0), strict=True):
        gone = torch.arange(space.size + 1, dtype=torch.float64) / space.size
        error = level * (steep * gone).exp()
        error[0] = 0
        curves[space.name] = Curve(torch.arange(space.size), error)
    given = Allocation(channels, Curves(curves, scaled=True), Target("macs", 0.5))
    found, best = (STRATEGIES["allocators"].make(each).counts(given) for each in ("gcro", "knapsack"))
    assert total(given.errors, found) <= 1.1 * total(given.errors, best)
    assert found[0] < 12
    assert found[0] / 12 < found[1] / 10  # the steeper, lower curve gives more


def test_a_first_rank_that_saves_nothing_is_not_a_step() -> None:
    """After channel removal two parts may cost more than one layer: steps skip those."""
    given = known("residual", "calibrate,select,ranks,sensitivity")
    model, sizes = given.model, given.model.sizes
    channels = np.array([space.size if not space.sites else 5 for space in given.channels.prunable], dtype=np.int64)
    for place, space in enumerate(given.channels.prunable):
        if space.sites:
            continue
        alone = [error if place == other else np.full_like(error, np.inf) for other, error in enumerate(given.errors)]
        before = channels
        for after in descent(model, alone, channels):
            assert model.total(after) < model.total(before)
            before = after
        useless = channels.copy()
        useless[place] = sizes[place] - 1
        if model.total(useless) == model.total(channels):
            assert give_back(model, given.errors, useless, model.total(channels))[place] == sizes[place]
