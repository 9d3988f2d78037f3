"""Residual branches that go whole: which, what is left, what that costs, and when it pays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from micro import Net, conv, head, networks, pooled
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import prunec
from prunec.allocation.greedy import with_count
from prunec.allocation.multi_budget import spend
from prunec.allocation.problem import Allocation
from prunec.api import PIPELINE, prepared
from prunec.channels.branches import found
from prunec.channels.spaces import Branch, Channels
from prunec.cost import resources
from prunec.cost.macs import Macs, counts_of
from prunec.cost.memory import memory
from prunec.data.images import as_images
from prunec.deploy.ort import parity
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.ir import graph
from prunec.ir.graph import floats
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.constraints import ANY, Constraints
from prunec.request.target import Target
from prunec.statistics.facts import Curve, Curves
from prunec.surgery import slicing
from prunec.surgery.bypass import tidied
from prunec.surgery.plan import Plan

IMAGES = torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(3))
CONTEXT = Context(Target("macs", 0.5), calibration=as_images(IMAGES))
WITH = {"residual": "b", "option_a": "b", "tokens": "fc1", "layer_scale": "b", "bottleneck": "b", "squeezed": "b",
        "downsampled": "b"}  # fmt: skip


def bottleneck(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    z = F.relu(y + m.d(F.relu(m.c(F.relu(m.b(y))))))
    return m.fc(pooled(F.relu(z + m.f(F.relu(m.e(z))))))


def squeezed(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    z = F.relu(m.b(y))
    s = torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(z, 1)))))
    return m.fc(pooled(y + m.c(z * s)))


def downsampled(m: Any, x: Tensor) -> Any:
    """Build a ResNet block with its shortcut convolution after the branch."""
    y = F.relu(m.a(x))
    return m.fc(pooled(F.relu(m.c(m.b(y)) + m.d(y))))


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    own = {
        "bottleneck": Net(
            bottleneck, a=conv(3, 12), b=conv(12, 4, 1), c=conv(4, 6), d=conv(6, 12, 1), e=conv(12, 8), f=conv(8, 12),
            fc=head(12),
        ),
        "squeezed": Net(
            squeezed, a=conv(3, 12), b=conv(12, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), c=conv(8, 12), fc=head(12)
        ),
        "downsampled": Net(
            downsampled, a=conv(3, 12), b=conv(12, 16, 1), c=conv(16, 16, 1), d=conv(12, 16, 1), fc=head(16)
        ),
    }  # fmt: skip
    return own[name].eval() if name in own else networks()[name]


@cache
def known(name: str) -> Program:
    return constrained(name, ANY)


def constrained(name: str, constraints: Constraints) -> Program:
    program = prepared(capture(network(name), (IMAGES[:2],)), constraints)
    context = replace(CONTEXT, constraints=constraints)
    return Pipeline.parse("calibrate,select,ranks,branches,sensitivity").run(program, context)


def gone(program: Program, *branches: Branch) -> Plan:
    return Plan(program.fact(Channels), {one.space: () for one in branches})


@torch.no_grad()
def without(program: Program, branch: Branch, inputs: Tensor) -> list[Tensor]:
    """The outputs where the add gives its shortcut, by walking the dense graph."""
    module = program.module
    values: graph.Values = dict(zip(graph.placeholders(module), (inputs,), strict=True))
    for node in module.graph.nodes:
        if node.op in ("get_attr", "call_function"):
            values[node] = graph.run_node(module, node, values)
        if node.name == branch.add:
            values[node] = next(values[one] for one in node.all_input_nodes if one.name == branch.shortcut)
    return floats([values[one] for one in next(n for n in module.graph.nodes if n.op == "output").all_input_nodes])


@pytest.mark.parametrize("name", WITH)
def test_without_its_branch_an_add_hands_on_its_shortcut(name: str) -> None:
    program = known(name)
    for one in program.fact(Channels).branches:
        plan = gone(program, one)
        narrow = slicing.apply(program.module, plan)
        tidy = tidied(narrow, plan)
        wanted = without(program, one, IMAGES)
        for module in (narrow, tidy):
            torch.testing.assert_close(floats(module(IMAGES)), wanted)
        left = {node.name for node in tidy.graph.nodes}
        assert not left & (one.nodes | {one.add})
        assert not {str(node.target) for node in tidy.graph.nodes if node.op == "get_attr"} & one.parameters


@pytest.mark.parametrize("name", WITH)
def test_what_is_left_costs_what_the_models_say(name: str) -> None:
    program = known(name)
    channels = program.fact(Channels)
    assert channels.branches[0].space == f"{WITH[name]}:branch"
    for one in channels.branches:
        plan = gone(program, one)
        counts = counts_of(channels, plan.keep)
        tidy = tidied(slicing.apply(program.module, plan), plan)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tidy(IMAGES[:2])
        assert Macs.of(channels).total(counts) == counter.get_total_flops() // 4
        stored = sum(value.numel() for value in tidy.state_dict().values())
        assert resources.parameters(channels, program.module).total(counts) == stored
        assert resources.size(channels, program.module).total(counts) == 4 * stored
        held = memory(channels, program.module, program.example_inputs)
        assert held.total(counts) <= held.dense
        place = [space.name for space in channels.prunable].index(one.space)
        along = Macs.of(channels).along(Macs.of(channels).sizes, place)
        assert along.tolist() == [Macs.of(channels).total(counts), Macs.of(channels).total()]


def test_an_activation_of_itself_goes() -> None:
    program = known("bottleneck")
    first, second = program.fact(Channels).branches
    plan = gone(program, first, second)
    tidy = tidied(slicing.apply(program.module, plan), plan)
    assert [str(node.target) for node in tidy.graph.nodes].count("aten.relu.default") == 1
    torch.testing.assert_close(tidy(IMAGES), slicing.apply(program.module, plan)(IMAGES))


@pytest.mark.parametrize("name", ["plain", "dense_block", "gate", "chunks", "splits", "shared_layer"])
def test_nothing_goes_where_nothing_is_added(name: str) -> None:
    program = prepared(capture(networks()[name], (IMAGES[:2],)))
    assert not list(found(program, program.fact(Channels)))


@pytest.mark.parametrize(
    "constraints", [Constraints(freeze=("c",)), Constraints(only=("a", "b")), Constraints(limits={"[bc]": 0.5})]
)
def test_layers_that_the_user_holds_hold_their_branch(constraints: Constraints) -> None:
    assert not constrained("residual", constraints).fact(Channels).branches
    assert constrained("residual", Constraints(limits={"a": 0.5})).fact(Channels).branches


def test_the_error_is_that_of_the_outputs_after_the_next_refit() -> None:
    program = known("bottleneck")
    first, _ = program.fact(Channels).branches
    passes = "calibrate,select,ranks,branches{{method={},images=48,factor=1}}"
    errors = {}
    for method in ("none", "sequential"):
        measured = Pipeline.parse(passes.format(method)).run(
            prepared(capture(network("bottleneck"), (IMAGES[:2],))), CONTEXT
        )
        errors[method] = float(measured.fact(Curves).by_space[first.space].error[1])
    dense = program.module(IMAGES)
    narrow = slicing.apply(program.module, gone(program, first))(IMAGES)
    plain = float((narrow - dense).square().sum() / (dense - dense.mean(0)).square().sum())
    assert errors["none"] == pytest.approx(plain, rel=1e-4)
    refitted = Pipeline.parse("compensate,slice").run(program.knowing(gone(program, first)), CONTEXT).module(IMAGES)
    after = float((refitted - dense).square().sum() / (dense - dense.mean(0)).square().sum())
    assert after <= errors["sequential"] * 1.05  # the layers behind the next branch are refitted there too
    assert errors["sequential"] < 0.7 * errors["none"]


def priced(name: str, errors: dict[str, float]) -> Allocation:
    """The problem with other errors of its branches."""
    program = known(name)
    curves = dict(program.fact(Curves).by_space)
    for space, error in errors.items():
        curves[space] = Curve(torch.tensor([0]), torch.tensor([0.0, error], dtype=torch.float64))
    return Allocation(program.fact(Channels), Curves(curves, scaled=True), Target("macs", 0.5), program, CONTEXT)


def test_the_knapsack_weighs_a_branch_against_all_that_is_within_it() -> None:
    """Remove a branch that costs a little less than narrowing it, keep a dearer one."""
    solve = STRATEGIES["allocators"].make("knapsack")
    stays = priced("bottleneck", {"b:branch": 1e6, "e:branch": 1e6})
    counts = solve.counts(stays)
    place = [space.name for space in stays.channels.prunable].index("e:branch")
    inside = stays.inside[place]
    assert counts[place] == 1
    assert {stays.channels.prunable[one].name for one in inside} == {"e", "e:rank", "f:rank"}
    spent = stays.expected(counts)
    for factor in (0.2, 0.5, 0.9):
        cheap = priced("bottleneck", {"b:branch": 1e6, "e:branch": factor * spent})
        found = solve.counts(cheap)
        assert cheap.model.total(found) <= cheap.allowed
        assert cheap.expected(found) <= spent * (1 + 1e-9)
        assert found[place] == 1 or (found[inside] == cheap.model.sizes[inside]).all()
    assert solve.counts(priced("bottleneck", {"b:branch": 1e6, "e:branch": 1e-9}))[place] == 0
    gone = with_count(counts, place, 0)
    assert stays.expected(gone) == stays.expected(stays.closed(gone)) > stays.expected(counts)


@pytest.mark.parametrize(
    "method",
    [
        "uniform",
        "knapsack",
        "threshold",
        "gcro",
        "portfolio",
        "cap-search{calls=31}",
        "evolve{generations=2,population=4}",
        "dais{steps=30}",
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_every_allocator_keeps_to_the_budget(method: str, share: float) -> None:
    given = replace(priced("bottleneck", {"b:branch": 0.05}), target=Target("macs", share))
    counts = spend(given, STRATEGIES["allocators"].make(method))
    assert given.model.total(counts) <= given.allowed
    assert (counts == given.closed(counts)).all()
    assert all(space.may_keep(int(count)) for space, count in zip(given.channels.prunable, counts, strict=True))
    if method == "uniform":
        assert (counts >= 1).all()


def test_a_network_that_is_compressed_without_a_branch_and_kept_whole_on_request() -> None:
    passes = PIPELINE.format(
        selector="obs", decomposer="collaborative", compensator="sequential", allocator="knapsack"
    ).replace("branches{", "branches{factor=1e-9,")
    torch.manual_seed(1)
    result = prunec.compress(network("bottleneck"), IMAGES, target="macs:0.5", pipeline=passes)
    assert result.plan.branches
    assert result.report["macs"]["compressed"] == result.report["notes"]["allocate"]["budgets"][0]["planned"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result.module(IMAGES[:2])
    assert counter.get_total_flops() // 4 == result.report["macs"]["compressed"]
    (gone, *_), rows = result.plan.branches, {one["name"]: one for one in result.plan.to_json()["spaces"]}
    assert rows[gone.space] == {
        "name": gone.space, "kind": "branch", "size": 1, "kept": 0, "keep": [], "sites": []
    }  # fmt: skip
    assert all(not rows[name]["keep"] for name in result.plan.channels.inside(gone))
    model = result.onnx()
    assert parity.compare(result.module, model, (IMAGES[:8],), (1, 8)).ok
    without = str(Pipeline.parse(passes).without("branches"))
    whole = prunec.compress(network("bottleneck"), IMAGES, target="macs:0.5", pipeline=without)
    assert not whole.plan.branches
    assert not np.isnan(whole.report["macs"]["share"])


@pytest.mark.parametrize("compensator", ["lstsq", "bias", "variance", "gram", "fold", "merge", "none"])
def test_every_compensator_works_where_a_branch_is_gone(compensator: str) -> None:
    program = known("bottleneck")
    (first, *_), channels = program.fact(Channels).branches, program.fact(Channels)
    keep = {space.name: tuple(range(max(1, space.size // 2))) for space in channels.prunable if space.sites}
    plan = Plan(channels, keep | {first.space: ()})
    done = Pipeline.parse(f"compensate{{method={compensator}}},slice,decompose").run(program.knowing(plan), CONTEXT)
    assert torch.isfinite(done.module(IMAGES)).all()


def test_a_convolution_on_the_shortcut_makes_up_for_a_branch_that_is_gone() -> None:
    program = known("downsampled")
    (branch,) = program.fact(Channels).branches
    done = Pipeline.parse("compensate,slice").run(program.knowing(gone(program, branch)), CONTEXT)
    with torch.no_grad():
        difference = (done.module(IMAGES) - program.module(IMAGES)).abs().max()
        left_alone = (slicing.apply(program.module, gone(program, branch))(IMAGES) - program.module(IMAGES)).abs().max()
    assert difference < 0.02 * left_alone
