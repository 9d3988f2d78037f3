"""Laws of the compensators: what is exact, what agrees, and that each runs on every kind of network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from measures import relative_error
from micro import networks
from programs import Stages, share
from torch import Tensor, nn

from prunec.api import PREPARE
from prunec.channels.analysis import analyse
from prunec.channels.spaces import Channels
from prunec.compensation import moment_matching
from prunec.cost import macs
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.target import Target
from prunec.statistics.moments import Moments
from prunec.statistics.sweep import Frontier
from prunec.surgery.plan import Plan

NETS = networks()
IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))
STAGES = Stages(Context(Target.parse("macs:0.6"), calibration=as_images(IMAGES)))
KEEP = {0, 1, 2, 3}


def planned(module: nn.Module, keep: dict[str, tuple[int, ...]]) -> tuple[Program, Context]:
    """The network prepared and calibrated, with a plan."""
    context = Context(calibration=as_images(IMAGES))
    program = Pipeline.parse(f"{PREPARE},calibrate").run(capture(module, (IMAGES[:2],)), context)
    return program.knowing(Plan(program.fact(Channels), keep)), context


def error(module: nn.Module, keep: dict[str, tuple[int, ...]], compensator: str) -> float:
    """The relative error of the narrow network's outputs."""
    program, context = planned(module, keep)
    built = Pipeline.parse(f"compensate{{method={compensator}}},slice").run(program, context)
    with torch.no_grad():
        return relative_error(built.module(IMAGES), module(IMAGES))


def branch(program: Program) -> Tensor:
    """Return the residual branch's output."""
    add = next(node for node in program.module.graph.nodes if node.target is torch.ops.aten.add.Tensor)
    frontier = Frontier(program.module, [(IMAGES,)])
    place = frontier.nodes.index(add)
    frontier.run(0, 0, place)
    return frontier.named(0, add.all_input_nodes[1].name)


def chain(*, linear: bool, mix: Tensor | None) -> nn.Module:
    """Two convolutions and a head, whose filters 4..7 repeat or mix filters 0..3."""
    torch.manual_seed(0)
    between = nn.Identity() if linear else nn.ReLU()
    layers = (nn.Conv2d(3, 8, 3), between, nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    first = layers[0]
    mix = torch.eye(4) if mix is None else mix
    with torch.no_grad():
        for tensor in first.parameters():
            tensor[4:] = torch.einsum("pk,k...->p...", mix, tensor[:4].clone())
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("name", ["gram{ridge=1e-9}", "merge{ridge=1e-9}", "fold{repair=false}", "fold"])
def test_a_repeated_channel_is_compensated_exactly(name: str) -> None:
    model = chain(linear=False, mix=None)
    assert error(model, {"0": (0, 1, 2, 3)}, "none") > 1e-2
    assert error(model, {"0": (0, 1, 2, 3)}, name) < 1e-6
    assert error(model, {"0": (0, 2, 5, 7)}, name) < 1e-6  # whichever of two alike stays


@pytest.mark.parametrize("name", ["gram{ridge=1e-9}", "merge{ridge=1e-9}"])
def test_a_mix_of_channels_after_a_linear_layer_is_compensated_exactly(name: str) -> None:
    model = chain(linear=True, mix=torch.randn(4, 4, generator=torch.Generator().manual_seed(2)))
    assert error(model, {"0": (0, 1, 2, 3)}, "none") > 1e-2
    assert error(model, {"0": (0, 1, 2, 3)}, name) < 1e-6


@pytest.mark.parametrize("name", ["merge{ridge=1e-9}", "fold{repair=false}"])
def test_repeated_depthwise_channels_are_compensated_exactly(name: str) -> None:
    torch.manual_seed(0)
    model = networks()["depthwise"]
    layers: Any = model
    with torch.no_grad():  # channels 6..11 repeat 0..5, and so do the two that a depthwise layer makes of each
        for tensor, half in ((layers.a.weight, 6), (layers.a.bias, 6), (layers.b.weight, 12), (layers.b.bias, 12)):
            tensor[half:] = tensor[:half].clone()
    assert error(model, {"a": tuple(range(6))}, name) < 1e-6


def test_folding_averages_what_it_joins() -> None:
    model = chain(linear=False, mix=None)
    first: Any = model[0]  # type: ignore[index]
    with torch.no_grad():
        first.weight[4:] += 0.01 * torch.randn(4, 3, 3, 3)
        wanted = (first.weight[:4] + first.weight[4:]) / 2
    program, context = planned(model, {"0": (0, 1, 2, 3)})
    refit = STRATEGIES["compensators"].make("fold{repair=false}").refit(program, program.fact(Plan), context).refit
    torch.testing.assert_close(refit["0.weight"], wanted)
    second: Any = model[2]  # type: ignore[index]
    torch.testing.assert_close(refit["2.weight"], second.weight.detach()[:, :4] + second.weight.detach()[:, 4:])


def test_matched_outputs_have_the_mean_and_the_variance_of_the_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(500, 2, 6, generator=generator) + 1, 3 * torch.randn(500, 2, 4, generator=generator) - 2
    moments = Moments()
    for rows in (slice(0, 200), slice(200, 500)):
        moments.add(z[rows], y[rows])
    weight = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    scaled, bias = moment_matching.matched(moments, weight, limit=100.0)
    found = torch.einsum("god,rgd->rgo", scaled, z.double()) + bias
    torch.testing.assert_close(found.mean(0), y.double().mean(0))
    torch.testing.assert_close(found.var(0, correction=0), y.double().var(0, correction=0), rtol=1e-5, atol=1e-7)
    limited, _ = moment_matching.matched(moments, weight, limit=0.5)
    assert bool((limited.abs() <= 0.5 * weight.abs() + 1e-12).all())


def test_a_constant_output_stays_one() -> None:
    moments = Moments()
    moments.add(torch.randn(50, 1, 3), torch.randn(50, 1, 2))
    scaled, bias = moment_matching.matched(moments, torch.zeros(1, 2, 3, dtype=torch.float64), limit=10.0)
    assert torch.equal(scaled, torch.zeros_like(scaled))
    torch.testing.assert_close(bias, moments.mean_y)


@pytest.mark.parametrize("name", ["variance", "fold"])
def test_repaired_layers_have_the_statistics_of_the_dense_ones(name: str) -> None:
    program, context = planned(NETS["plain"], {"a": (0, 2, 3, 5, 7, 9), "b": (0, 1, 2, 6)})
    built = Pipeline.parse(f"compensate{{method={name}{{rows=100000}}}},slice").run(program, context)
    model: Any = NETS["plain"]
    narrow: Any = built.module
    with torch.no_grad():
        dense = model.b(torch.relu(model.a(IMAGES)))[:, [0, 1, 2, 6]]
        hidden = torch.relu(torch.conv2d(IMAGES, narrow.a.weight, narrow.a.bias, padding=1))
        found = torch.conv2d(hidden, narrow.b.weight, narrow.b.bias, padding=1)
    torch.testing.assert_close(found.mean((0, 2, 3)), dense.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.std((0, 2, 3)), dense.std((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["variance", "fold"])
def test_a_drifted_shortcut_adds_nothing_to_the_variance(name: str) -> None:
    program, context = planned(NETS["residual"], {"a": (0, 2, 3, 5, 7, 9), "b": (0, 1, 2, 6)})
    built = Pipeline.parse(f"compensate{{method={name}{{rows=100000}}}},slice").run(program, context)
    found, wanted = branch(built), branch(program)[:, [0, 2, 3, 5, 7, 9]]
    torch.testing.assert_close(found.std((0, 2, 3)), wanted.std((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["variance", "fold"])
def test_repaired_layers_keep_the_rank_of_the_plan(name: str) -> None:
    context = Context(calibration=as_images(IMAGES))
    steps = f"{PREPARE},calibrate,select,ranks{{method=collaborative}}"
    program = Pipeline.parse(steps).run(capture(NETS["residual"], (IMAGES[:2],)), context)
    plan = Plan(program.fact(Channels), {"a": tuple(range(6)), "b": tuple(range(5)), "b:rank": (0, 1), "c:rank": (0,)})
    sliced = Pipeline.parse(f"compensate{{method={name}}},slice").run(program.knowing(plan), context)
    built = Pipeline.parse("decompose").run(sliced, context)
    assert macs.total_macs(analyse(built)) < macs.total_macs(analyse(sliced))
    with torch.no_grad():
        torch.testing.assert_close(built.module(IMAGES), sliced.module(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gram", "merge", "fold", "fold{repair=false}", "variance"])
@pytest.mark.parametrize(
    "net", ["residual", "depthwise", "dense_block", "concatenation", "grouped", "many_groups", "batch_norm_before",
            "flat", "upsampled", "prelu", "shared_layer", "tokens"]
)  # fmt: skip
def test_each_runs_on_every_kind_of_network(net: str, name: str) -> None:
    steps = (
        f"{PREPARE},calibrate,select,ranks,branches,sensitivity,allocate,compensate{{method={name}}},slice,decompose"
    )
    program = STAGES.run(net, steps)
    assert share(program) <= 0.6
    with torch.no_grad():
        assert bool(torch.isfinite(program.module(IMAGES)).all())


@pytest.mark.parametrize("name", ["gram", "fold", "variance"])
def test_very_wide_layers_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = {"a": (0, 2, 3, 5, 7), "hidden": (0, 1, 2, 6, 7, 8)}
    wide = error(NETS["flat"], keep, name)
    monkeypatch.setattr("prunec.channels.matrix.WIDEST", 20)
    by_channel = error(NETS["flat"], keep, name)
    assert max(wide, by_channel) < 0.1 * error(NETS["flat"], keep, "none")
    assert by_channel == pytest.approx(wide, rel=0.2)


def test_sharing_layers_share_what_stands_in() -> None:
    program, context = planned(NETS["shared_layer"], {"a": (0, 1, 3, 4, 6, 7)})
    plan = STRATEGIES["compensators"].make("gram").refit(program, program.fact(Plan), context)
    assert set(plan.refit) == {"b.weight", "fc.weight"}
    assert replace(plan, refit={}) == replace(program.fact(Plan), refit={})
