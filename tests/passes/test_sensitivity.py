"""Curves in the currency of the outputs: through what was measured, and never falling."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from micro import networks

from prunec.api import prepared
from prunec.channels.matrix import weight_of
from prunec.channels.spaces import Channels
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.ir import graph
from prunec.ir.graph import floats
from prunec.ir.program import Program
from prunec.passes.sensitivity import Sensitivity, _scaled
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.target import Target
from prunec.solvers import lowrank
from prunec.statistics.facts import Curve, Curves, Statistics
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

IMAGES = torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(2))
CONTEXT = Context(Target("macs", 0.5), calibration=as_images(IMAGES))


@cache
def known() -> Program:
    program = prepared(capture(networks()["residual"], (IMAGES[:2],)))
    return Pipeline.parse("calibrate,select,ranks").run(program, CONTEXT)


def curves(program: Program) -> dict[str, Curve]:
    return dict(program.fact(Curves).by_space)


def tried(size: int, share: float) -> int:
    return min(max(1, round(size * share)), max(1, size - 1))


def test_curves_go_through_what_was_measured() -> None:
    program = known()
    channels, found = program.fact(Channels), curves(Sensitivity(levels=2).run(program, CONTEXT))
    batch = next(iter(CONTEXT.choosing.take(16, CONTEXT.seed).batches(CONTEXT.batch)))
    nodes = {one.node: one for one in channels.contractions}
    sizes = {space.name: space.size for space in channels.prunable}
    assert channels.factorings
    for factoring in channels.factorings:
        one, size = nodes[factoring.node], sizes[factoring.space]
        moments = program.fact(Statistics).moments[one.node]
        weight = weight_of(program.module, one)[0]
        for left in {size - tried(size, share) for share in (0.5, 0.875)}:
            low = lowrank.truncated(weight, moments.zz[0], factoring.split, left)
            bias = graph.attribute(program.module, str(one.bias))
            shift = (weight - low) @ moments.mean_z[0]
            changed = {one.weight: low, str(one.bias): bias + shift.to(bias)}
            shapes = {
                name: value.reshape(graph.attribute(program.module, name).shape) for name, value in changed.items()
            }
            module = slicing.apply(
                program.module, Plan(channels, {}, refit={name: v.float() for name, v in shapes.items()})
            )
            with torch.no_grad():
                narrow, dense = floats(module(*batch))[0], floats(program.module(*batch))[0]
            error = float((narrow - dense).square().sum() / (dense - dense.mean(0)).square().sum())
            assert float(found[factoring.space].error[size - left]) == pytest.approx(error, rel=1e-3)


def test_one_level_is_a_scale_alone_and_more_bend_the_curve() -> None:
    program = known()
    local, one, two = (curves(program), *(curves(Sensitivity(levels=k).run(program, CONTEXT)) for k in (1, 2)))
    bent = 0
    for name, curve in local.items():
        half = tried(len(curve.order), 0.5)
        scale = one[name].error[half] / curve.error[half]
        torch.testing.assert_close(one[name].error, curve.error * scale)
        torch.testing.assert_close(two[name].error[: half + 1], one[name].error[: half + 1])
        bent += not torch.allclose(two[name].error, one[name].error, rtol=1e-3)
        assert (two[name].error.diff() >= 0).all()
    assert bent


def test_what_a_plan_removes_is_measured_too() -> None:
    program = known()
    channels, half = program.fact(Channels), curves(Sensitivity(levels=1).run(program, CONTEXT))
    space = next(one for one in channels.prunable if one.sites and one.size >= 4)
    keep = {one.name: tuple(range(one.size)) for one in channels.prunable} | {space.name: tuple(range(space.size - 1))}
    found = curves(Sensitivity(levels=1).run(program.knowing(Plan(channels, keep)), CONTEXT))
    gone = tried(space.size, 0.5)
    assert found[space.name].error[gone] == pytest.approx(float(half[space.name].error[gone]))
    assert found[space.name].error[1] != half[space.name].error[1]
    others = [name for name in half if name != space.name]
    assert others
    assert all(torch.equal(found[name].error, half[name].error) for name in others)


def test_between_two_measurements_the_logarithm_of_the_scale_is_interpolated() -> None:
    curve = Curve(torch.arange(4), torch.tensor([0.0, 0.1, 0.2, 0.4, 0.8], dtype=torch.float64))
    found = _scaled(curve, {1: 0.1, 3: 1.6}).error.numpy()
    np.testing.assert_allclose(found, [0.0, 0.1, 0.4, 1.6, 3.2])


def test_a_part_that_the_outputs_do_not_feel_costs_next_to_nothing() -> None:
    curve = Curve(torch.arange(2), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert not _scaled(curve, {1: 0.0}).error.any()
    assert not _scaled(curve, {}).error.any()
    assert 0 < float(_scaled(curve, {1: 0.0, 2: 1.0}).error[1]) < 1e-6


def test_more_error_is_never_said_to_be_less() -> None:
    curve = Curve(torch.arange(3), torch.tensor([0.0, 0.5, 0.6, 1.0], dtype=torch.float64))
    assert _scaled(curve, {1: 1.0, 2: 0.1}).error.tolist() == sorted(_scaled(curve, {1: 1.0, 2: 0.1}).error.tolist())
