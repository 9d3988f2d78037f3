"""Norms that stay see the narrow network: statistics are exact, in order, and help where the layers are only cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from measures import relative_error
from micro import Net, conv, head, networks, pooled
from torch import Tensor, nn

from prunec.api import PREPARE
from prunec.data.images import as_images
from prunec.errors import SpecError
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.target import Target
from prunec.surgery.plan import Plan

CUT = f"{PREPARE},calibrate,select,allocate{{method=uniform}},compensate{{method=none}},slice"


def images(count: int) -> Tensor:
    """Noise whose colour and contrast differ from image to image, so that outputs do."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, 3, 12, 12, generator=generator)
    contrast = 0.3 + torch.rand(count, 1, 1, 1, generator=generator)
    return noise * contrast + torch.randn(count, 3, 1, 1, generator=generator)


IMAGES = images(96)


def dense(m: Any, x: Tensor) -> Any:
    x = m.stem(x)
    x = torch.cat([x, m.b(torch.relu(m.bn1(x)))], 1)
    x = torch.cat([x, m.c(torch.relu(m.bn2(x)))], 1)
    return m.fc(pooled(torch.relu(m.bn3(x))))


def dense_net() -> Net:
    """Pre-activation dense layers, with the statistics of their training images in the norms."""
    torch.manual_seed(0)
    norms = {f"bn{place}": nn.BatchNorm2d(width) for place, width in ((1, 12), (2, 18), (3, 24))}
    net = Net(dense, stem=conv(3, 12), b=conv(12, 6), c=conv(18, 6), fc=head(24), **norms)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        net.train()(IMAGES)
    return net.eval()


def built(net: nn.Module, steps: str, target: str = "macs:0.6") -> tuple[Program, Context]:
    context = Context(calibration=as_images(IMAGES), target=Target.parse(target), batch=20)
    return Pipeline.parse(steps).run(capture(net, (IMAGES[:2],)), context), context


def norm_inputs(program: Program) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return each norm's input over all images, and its stored mean and variance."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    class Spy(torch.fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if target is torch.ops.aten.batch_norm.default:
                found.append((args[0], args[3], args[4]))
            return super().call_function(target, args, kwargs)

    with torch.no_grad():
        Spy(program.module).run(IMAGES)
    return found


def test_stored_statistics_are_those_of_the_narrow_network() -> None:
    program, _ = built(dense_net(), f"{CUT},reestimate-bn")
    assert program.fact(Plan).keep
    inputs = norm_inputs(program)
    assert len(inputs) == 3
    for x, mean, variance in inputs:
        torch.testing.assert_close(mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(variance, x.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)


def test_the_network_before_keeps_its_statistics() -> None:
    program, context = built(dense_net(), CUT)
    before = [mean.clone() for _, mean, _ in norm_inputs(program)]
    after = Pipeline.parse("reestimate-bn").run(program, context)
    assert all(torch.equal(a, b) for a, (_, b, _) in zip(before, norm_inputs(program), strict=True))
    assert not torch.equal(before[1], norm_inputs(after)[1][1])


def test_it_helps_a_network_that_was_only_cut() -> None:
    net = dense_net()
    cut, context = built(net, CUT)
    after = Pipeline.parse("reestimate-bn").run(cut, context)
    with torch.no_grad():
        worse, better = (relative_error(each.module(IMAGES), net(IMAGES)) for each in (cut, after))
    assert better < worse


def test_a_network_without_norms_is_left_as_it_is() -> None:
    cut, context = built(networks()["residual"], CUT)
    after = Pipeline.parse("reestimate-bn").run(cut, context)
    assert after.module is cut.module
    assert after.fact(Plan) is cut.fact(Plan)


def test_it_wants_a_plan_and_reads_back_as_written() -> None:
    assert str(Pipeline.parse("reestimate-bn")) == "reestimate-bn"
    with pytest.raises(SpecError, match="Plan"):
        Pipeline.parse("fold-bn,reestimate-bn").check()
