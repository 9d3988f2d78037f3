"""Compare allocators with every plan of small problems: ranks, branches, non-convex curves."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED
from shared_nets import cifar, load
from small_problems import SHAPES, every, left_over, problem

from prunec.allocation.completion import finished
from prunec.allocation.multi_budget import spend
from prunec.allocation.multiple_choice import choose
from prunec.allocation.problem import Allocation
from prunec.allocation.rebalancing import rebalanced
from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.target import Target
from prunec.statistics.facts import Curves

CHEAPER = ("uniform", "threshold", "gcro")
SHARES = (0.25, 0.5, 0.8)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_default_is_the_best_of_all_plans_or_near_it(shape: str) -> None:
    ratios = []
    for seed, share in ((seed, share) for seed in range(2) for share in SHARES):
        given = problem(seed, share, (shape, "any"))
        _, costs, errors = every(given)
        best = errors[costs <= given.allowed].min()
        found = spend(given, STRATEGIES["allocators"].make("knapsack"))
        assert given.model.total(found) <= given.allowed
        ratios.append(1.0 if given.expected(found) <= best + 1e-12 else given.expected(found) / best)
    assert max(ratios) <= 1.15
    assert sum(ratio <= 1 + 1e-9 for ratio in ratios) >= 5  # of 6: the best itself


@pytest.mark.parametrize("share", SHARES)
def test_nothing_is_left_over_and_the_default_is_never_worse(share: float) -> None:
    for seed in range(4):
        given = problem(seed, share)
        ends = {name: spend(given, STRATEGIES["allocators"].make(name)) for name in (*CHEAPER, "knapsack")}
        for name, counts in ends.items():
            assert given.model.total(counts) <= given.allowed
            assert not left_over(given, counts), name
            assert (given.closed(counts) == counts).all()
        default = given.expected(ends["knapsack"])
        assert all(default <= given.expected(counts) for counts in ends.values())


def test_a_saturated_stream_is_not_destroyed_and_the_rest_given_away() -> None:
    """Only both ends of the stream's curve lie on its hull: a multiplier alone takes all of it, and uses a fraction."""
    for seed in range(3):
        given = problem(seed, 0.5, ("saturated",))
        found = spend(given, STRATEGIES["allocators"].make("knapsack"))
        assert not left_over(given, found)
        _, costs, errors = every(given)
        assert given.expected(found) <= 1.05 * errors[costs <= given.allowed].min()


def test_a_block_that_may_go_goes_only_where_it_pays() -> None:
    """Keep a branch that costs much more than its layers, under gcro too."""
    for seed in range(3):
        given = problem(seed, 0.7, ("convex",))
        curves = dict(given.curves.by_space)
        for name in ("one:branch", "two:branch"):
            curves[name] = type(curves[name])(curves[name].order, torch.tensor([0.0, 100.0]).double())
        dear = Allocation(given.channels, Curves(curves), given.target)
        for name in (*CHEAPER, "knapsack"):
            counts = spend(dear, STRATEGIES["allocators"].make(name))
            assert (counts[-2:] == 1).all(), name


def test_what_is_tried_is_the_same_each_time() -> None:
    given, again = problem(3, 0.4), problem(3, 0.4)
    assert (spend(given, STRATEGIES["allocators"].make("knapsack"))
            == spend(again, STRATEGIES["allocators"].make("knapsack"))).all()  # fmt: skip


@pytest.mark.parametrize("scale", [1e-24, 1.0, 1e24])
def test_the_bracket_grows_until_it_holds(scale: float) -> None:
    """Errors of any size: relative ones of a network fixed to a batch of one came out near 1e24."""
    plain = problem(1, 0.4)
    curves = {name: type(one)(one.order, one.error * scale) for name, one in plain.curves.by_space.items()}
    given = Allocation(plain.channels, Curves(curves), plain.target)
    found, wanted = (spend(one, STRATEGIES["allocators"].make("knapsack")) for one in (given, plain))
    assert given.model.total(found) <= given.allowed
    assert plain.expected(found) == pytest.approx(plain.expected(wanted), rel=1e-6)


def test_several_limits_leave_nothing_over_either() -> None:
    plain = problem(2, 0.5)
    both = plain.weighed(np.array([1.0]))  # the same limit, as a mixed one
    found = finished(both, both.model.sizes)
    assert found is not None
    assert plain.model.total(found) <= plain.allowed
    assert not left_over(plain, found)


def test_moves_find_what_no_single_step_does() -> None:
    """Three spaces have to change at once: the stream up, one block and the rank of the head down."""
    given = problem(0, 0.5, ("flat", "any"))
    stuck = np.array([2, 4, 4, 3, 1, 1])
    assert not left_over(given, stuck)
    moved = rebalanced(given, stuck, 60)
    _, costs, errors = every(given)
    assert given.model.total(moved) <= given.allowed
    assert given.expected(moved) == errors[costs <= given.allowed].min() < 0.5 * given.expected(stuck)


def test_a_multiple_choice_finds_counts_above_the_hull() -> None:
    """Two spaces of cost n each, both flat but at their ends, a third convex: the best plan is above two hulls."""
    costs = [np.arange(5.0), np.arange(5.0)]
    errors = [np.array([10.0, 9.0, 8.9, 8.8, 0.0]), np.array([10.0, 4.0, 3.9, 3.8, 3.7])]
    assert choose(costs, errors, 5.0) == [4, 1]
    assert choose(costs, errors, 4.0) == [4, 0]
    assert choose(costs, errors, 8.0) == [4, 4]
    assert choose(costs, errors, -1.0) is None
    blocked = [np.array([np.inf, 9.0, np.inf, 8.8, 0.0]), errors[1]]
    assert choose(costs, blocked, 3.0) == [1, 2]


def test_the_bench_takes_no_other_images_unless_told() -> None:
    """`--others 0`, its default, ended with "holds no samples"."""
    bench = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "allocators.py"))
    images = as_images(torch.arange(6.0)[:, None, None, None].expand(6, 3, 4, 4))
    train, others = bench["divided"](images, 6, 0)
    assert len(train) == 6
    assert others is None
    train, others = bench["divided"](images, 4, 0)
    values = [float(one[0, 0, 0]) for part in (train, others) for one in part.inputs[0]]
    assert sorted(values) == list(range(6))


@pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is missing: the curves of a real network are not there")
def test_on_the_curves_of_a_real_network_the_default_is_best_and_spends_all() -> None:
    images, _ = cifar("train_8192", 16)
    program = prepared(capture(load("cifar_resnet20"), (images[:2],)))
    context = Context(Target("macs", 0.3), calibration=as_images(images))
    passes = "calibrate,select{method=obs},ranks,branches{images=8,rows=256},sensitivity{images=8,levels=1}"
    program = Pipeline.parse(passes).run(program, context)
    given = Allocation(program.fact(Channels), program.fact(Curves), Target("macs", 0.3), program, context)
    ends = {name: spend(given, STRATEGIES["allocators"].make(name)) for name in (*CHEAPER, "knapsack")}
    default = given.expected(ends["knapsack"])
    assert all(default <= given.expected(counts) for counts in ends.values())
    for name, counts in ends.items():
        assert given.model.total(counts) <= given.allowed
        assert not left_over(given, counts), name
    assert given.model.total(ends["knapsack"]) >= 0.99 * given.allowed
