"""Ranks as spaces: what is offered, what it costs, and what is built of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from micro import networks
from torch import Tensor, nn

import prunec
from prunec.allocation.problem import Allocation
from prunec.api import PREPARE
from prunec.channels.analysis import analyse
from prunec.channels.spaces import Channels, Split
from prunec.cost import macs as cost
from prunec.cost.terms import drop_useless_ranks
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.constraints import ANY, Constraints
from prunec.request.target import Target
from prunec.solvers import lowrank
from prunec.statistics.facts import Curves
from prunec.surgery.plan import Plan

IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))


class Odd(nn.Module):
    """Strides, dilations, pads and taps that differ by axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 24, 3, padding=1)
        self.b = nn.Conv2d(24, 24, (3, 5), stride=(2, 1), padding=(1, 4), dilation=(1, 2))
        self.c = nn.Conv2d(24, 32, 1, stride=2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def ranked(module: nn.Module, decomposer: str, constraints: Constraints = ANY) -> tuple[Program, Context]:
    context = Context(constraints=constraints, calibration=as_images(IMAGES))
    steps = f"{PREPARE},calibrate,select,ranks{{method={decomposer}}}"
    return Pipeline.parse(steps).run(capture(module.eval(), (IMAGES[:2],)), context), context


@pytest.mark.parametrize(("decomposer", "parts"), [("spatial-svd", 2), ("whitened-svd", 2), ("tucker2", 3), ("tt", 4)])
def test_the_parts_give_what_the_truncated_layer_gives(decomposer: str, parts: int) -> None:
    program, context = ranked(Odd(), decomposer)
    ranks = {one.space: 3 for one in program.fact(Channels).factorings}
    assert {name.removesuffix(":rank") for name in ranks} >= {"a", "b", "c"}
    plan = Plan(program.fact(Channels), {name: tuple(range(rank)) for name, rank in ranks.items()})
    fitted = Pipeline.parse("compensate{method=lstsq},slice").run(program.knowing(plan), context)
    built = Pipeline.parse("decompose").run(fitted, context)
    with torch.no_grad():
        wanted, found = fitted.module(IMAGES), built.module(IMAGES)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
    layers = {name: value.shape for name, value in built.module.named_parameters()}
    assert sum(name.startswith("b.") and name.endswith(".weight") for name in layers) == parts
    assert layers["b.0.weight"][0] == layers["b.1.weight"][1] == 3
    macs = cost.Macs.of(plan.channels).total(cost.counts_of(plan.channels, plan.keep))
    assert cost.total_macs(analyse(built)) == macs


def test_what_no_rank_pays_for_stays_whole() -> None:
    program, _ = ranked(Odd(), "spatial-svd")
    channels = program.fact(Channels)
    model = cost.Macs.of(channels)
    place = next(n for n, space in enumerate(channels.prunable) if space.name == "b:rank")
    macs = model.along(model.sizes, place)
    assert macs[-1] == model.total()
    assert (macs[:-1] < macs[-1]).all()
    counts = model.sizes.copy()
    counts[[space.name for space in channels.prunable].index("b")] = 1  # then no pair is cheaper than the layer
    counts[place] -= 1
    assert drop_useless_ranks(model, counts)[place] == model.sizes[place]


def test_the_user_has_the_say_on_ranks_too() -> None:
    frozen, _ = ranked(Odd(), "spatial-svd", Constraints(freeze=("b",), limits={"c": 0.1}, round_to=4))
    spaces = {space.name: space for space in frozen.fact(Channels).prunable if not space.sites}
    assert "b:rank" not in spaces
    assert "c:rank" not in spaces  # a tenth less is dearer than the layer
    assert {space.step for space in spaces.values()} == {4}
    assert ranked(Odd(), "none")[0].fact(Channels).factorings == ()


def of_low_rank() -> nn.Module:
    """A network whose second layer is a k×1 and a 1×k in disguise."""
    torch.manual_seed(0)
    net = Odd().eval()
    split = Split((3, 5), (True, False))
    first, second = lowrank.split_exactly(net.b.weight, split, 6)
    with torch.no_grad():
        net.b.weight.copy_(torch.einsum("orw,rih->oihw", second[:, :, 0], first[..., 0]))
    return net


def test_ranks_and_channels_compete_for_one_budget() -> None:
    net = of_low_rank()
    program, context = ranked(net, "spatial-svd")
    channels, curves = program.fact(Channels), program.fact(Curves)
    problem = Allocation(channels, curves, Target("macs", 0.6), program, context)
    counts = STRATEGIES["allocators"].make("knapsack").counts(problem)
    kept = dict(zip((space.name for space in channels.prunable), counts, strict=True))
    assert kept["b:rank"] == 6
    assert problem.model.total(counts) <= 0.6 * problem.model.total()
    assert problem.error(counts) < problem.error(problem.fewest)


def test_a_layer_of_low_rank_becomes_two_without_a_loss() -> None:
    net, errors = of_low_rank(), {}
    for decomposer in ("spatial-svd", "none"):
        result = prunec.compress(net, IMAGES, target="macs:0.6", decomposer=decomposer, align="none")
        with torch.no_grad():
            errors[decomposer] = float((result.module(IMAGES) - net(IMAGES)).square().mean())
        names = {name for name, _ in result.module.named_parameters()}
        assert ("b.1.weight" in names) == (decomposer != "none")
    assert errors["spatial-svd"] < 0.1 * errors["none"]


def test_the_statistics_of_a_calibration_are_used_again(tmp_path: Path) -> None:
    options: Any = {"target": "macs:0.6", "cache": tmp_path}
    first = prunec.compress(networks()["residual"], IMAGES, **options)
    (file,) = tmp_path.rglob("*.safetensors")
    stamp = file.stat().st_mtime_ns
    again = prunec.compress(networks()["residual"], IMAGES, **options)
    assert [one.stat().st_mtime_ns for one in tmp_path.rglob("*.safetensors")] == [stamp]
    assert again.plan.to_json() == first.plan.to_json()
    pairs = zip(graph_tensors(first), graph_tensors(again), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    prunec.compress(networks()["residual"], IMAGES.flip(0), **options)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    file.write_bytes(b"nothing")
    with pytest.warns(RuntimeWarning, match="measured anew"):
        third = prunec.compress(networks()["residual"], IMAGES, **options)
    assert third.plan.to_json() == first.plan.to_json()


def graph_tensors(result: prunec.Result) -> list[Tensor]:
    return [graph.attribute(result.module, name) for name, _ in result.module.named_parameters()]
