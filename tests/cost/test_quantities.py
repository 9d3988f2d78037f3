"""Predictions of parameters, bytes and memory are exact; several limits hold at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from measures import macs_by_torch
from micro import conv, networks
from torch import nn

import prunec
from prunec.allocation.multi_budget import spend
from prunec.allocation.problem import Allocation
from prunec.api import PREPARE, prepared
from prunec.channels.analysis import analyse
from prunec.channels.spaces import Channels
from prunec.cost.budget import quantity_of
from prunec.data.images import as_images
from prunec.errors import BudgetError, PassError
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.request.target import Target
from prunec.statistics.facts import Curve, Curves
from prunec.surgery import slicing
from prunec.surgery.identity import random_plan

NETS = networks()
IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))
SOME = ("residual", "dense_block", "depthwise", "flat", "channel_shuffle", "fused_attention")


def quantity(kind: str, program: Program, channels: Channels | None = None) -> Any:
    found = analyse(program) if channels is None else channels
    return quantity_of(kind, found, program)


def bytes_of(one: torch.Tensor) -> int:
    return one.numel() * one.element_size()


def stored(result: prunec.Result) -> tuple[int, int]:
    numbers = sum(one.numel() for one in result.program.module.parameters())
    return numbers, sum(map(bytes_of, result.program.module.state_dict().values()))


@pytest.mark.parametrize("name", SOME)
def test_what_is_planned_is_what_comes_out(name: str) -> None:
    """With low rank: layers become two, and the parts are counted."""
    result = prunec.compress(
        NETS[name], IMAGES, target="params:0.7,size:0.75,memory:0.99", batch=32, allocator="uniform"
    )
    numbers, size, memory = result.report["notes"]["allocate"]["budgets"]
    assert (numbers["planned"], size["planned"]) == stored(result)
    assert all(one["planned"] <= one["allowed"] and one["written"] <= one["allowed"] for one in (numbers, size, memory))
    assert (numbers["written"], size["written"]) == stored(result)
    built = quantity("memory", result.program).dense
    assert built <= memory["planned"]  # a layer of two is held to what it would take as one, too
    if not result.plan.ranks and name != "channel_shuffle":  # which gathers what it shuffles, once it is narrow
        assert built == memory["planned"]


def test_the_macs_that_were_written_are_counted_on_the_network() -> None:
    result = prunec.compress(NETS["residual"], IMAGES, target="macs:0.6", batch=32)
    (row,) = result.report["notes"]["allocate"]["budgets"]
    assert row["written"] == row["planned"] == macs_by_torch(result.program.module, IMAGES[:1]) <= row["allowed"]


@pytest.mark.parametrize("name", ["channel_gate", "rolled_channels", "strided_channels", "permuted_channels"])
def test_the_places_that_a_narrow_network_picks_are_counted(name: str) -> None:
    program = prepared(capture(NETS[name], (IMAGES[:2],)))
    channels = program.fact(Channels)
    model, dense = quantity("size", program, channels), sum(map(bytes_of, program.module.state_dict().values()))
    assert model.dense == dense
    for remaining in (0.5, 0.8):
        plan = random_plan(channels, 0, remaining)
        narrow = slicing.apply(program.module, plan)
        found = sum(map(bytes_of, narrow.state_dict().values()))
        planned = model.total(np.array([len(plan.keep[one.name]) for one in channels.prunable]))
        assert (
            planned == found if name != "permuted_channels" else found <= planned
        )  # which holds places when dense too


@pytest.mark.parametrize("target", ["macs:0.6", "params:0.6", "size:0.6", "memory:0.8"])
def test_a_budget_that_the_finished_network_misses_is_an_error(target: str) -> None:
    """Nothing is sliced: the network is as large as it was."""
    pipeline = PREPARE + ",calibrate,select,sensitivity,allocate,compensate{method=none}"
    with pytest.raises(BudgetError, match=f"target {target} was missed: .* may remain, .*where the plan has") as caught:
        prunec.compress(NETS["residual"], IMAGES, target=target, batch=32, pipeline=pipeline)
    assert "slice" in str(caught.value)
    assert "Nothing was saved" in str(caught.value)


def test_the_memory_of_a_chain_by_hand() -> None:
    chain = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 16), nn.ReLU(), conv(16, 4), nn.Flatten(), nn.Linear(576, 2))
    program = prepared(capture(chain, (IMAGES[:2],)))
    found = quantity("memory", program, program.fact(Channels))
    place = 144 * 4  # of one channel: 12 · 12 floats
    assert found.dense == (8 + 16) * place  # a ReLU writes in place
    half = np.array([4 if space.size == 8 else space.size for space in program.fact(Channels).prunable])
    assert found.total(half) == (4 + 16) * place


def test_a_shortcut_is_held_until_it_is_added() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 8), conv(8, 4), nn.Linear(576, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            return self.d((self.c(self.b(x)) + x).flatten(1))  # type: ignore[no-any-return]

    program = prepared(capture(Shortcut().eval(), (IMAGES[:2],)))
    assert quantity("memory", program, program.fact(Channels)).dense == (4 + 8 + 4) * 144 * 4


def problem(name: str, target: str) -> Allocation:
    program = prepared(capture(NETS[name], (IMAGES[:2],)))
    channels, generator = program.fact(Channels), torch.Generator().manual_seed(0)
    curves = {}
    for space in channels.prunable:
        steps = torch.rand(space.size, generator=generator, dtype=torch.float64).sort().values * (1 + space.start)
        curves[space.name] = Curve(torch.arange(space.size), torch.cat([steps.new_zeros(1), steps.cumsum(0)]))
    context = Context(Target.parse(target), calibration=as_images(IMAGES))
    return Allocation(channels, Curves(curves), Target.parse(target), program, context)


def errors(given: Allocation, counts: Any) -> float:
    return float(sum(error[count] for error, count in zip(given.errors, counts, strict=True)))


@pytest.mark.parametrize("method", ["knapsack", "threshold", "gcro", "uniform"])
@pytest.mark.parametrize("target", ["macs:0.5,params:0.5", "memory:0.8", "macs:0.6,params:0.3,memory:0.9"])
def test_every_limit_is_kept_and_nothing_is_left_over(method: str, target: str) -> None:
    given = problem("dense_block", target)
    found = spend(given, STRATEGIES["allocators"].make(method))
    assert given.used(found).max() <= 1 + 1e-9
    spaces = given.channels.prunable
    for place in [place for place, space in enumerate(spaces) if found[place] < space.size]:
        more = found.copy()
        more[place] += 1
        assert (
            given.used(more).max() > 1 + 1e-9 or given.errors[place][more[place]] == given.errors[place][found[place]]
        )


def test_a_limit_that_is_slack_costs_nothing() -> None:
    knapsack = STRATEGIES["allocators"].make("knapsack")
    one, both = problem("dense_block", "macs:0.5"), problem("dense_block", "macs:0.5,params:0.99")
    assert errors(both, spend(both, knapsack)) <= 1.02 * errors(one, spend(one, knapsack))


def test_several_limits_near_the_best_of_all_combinations() -> None:
    given = problem("plain", "macs:0.6,params:0.4")
    sizes = given.model.sizes
    every = [np.array(one, dtype=np.int64) + 1 for one in np.ndindex(*sizes)]
    best = min(errors(given, one) for one in every if given.used(one).max() <= 1)
    assert errors(given, spend(given, STRATEGIES["allocators"].make("knapsack"))) <= 1.1 * best


def test_out_of_reach_says_of_what() -> None:
    with pytest.raises(BudgetError, match=r"target size:10B cannot be reached.* bytes of weights remain"):
        _ = problem("plain", "size:10B").budgets
    with pytest.raises(BudgetError, match=r"params:0\.\d+ is the least to ask for"):
        _ = problem("plain", "macs:0.9,params:0.0001").budgets


def test_what_needs_the_network_says_so() -> None:
    channels = problem("plain", "macs:0.5").channels
    with pytest.raises(PassError, match="only macs can do without"):
        _ = Allocation(channels, Curves({}), Target.parse("params:0.5")).budgets
