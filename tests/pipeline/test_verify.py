"""Pipelines verify exact passes and the capture; an instrument records the drift."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, fx, nn

from prunec.errors import NumericsError
from prunec.frontend.capture import capture
from prunec.ir.drift import drift
from prunec.ir.original import Original
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass, Pipeline, Verify

NAME = "test-verify"  # of every pass in this file


class Net(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.scale, x.sum(1)


def traced(scale: float = 1.0) -> fx.GraphModule:
    return fx.symbolic_trace(Net(scale))


@dataclass(frozen=True)
class Look(Pass):
    def run(self, program: Program, context: Context) -> Program:
        return program


@dataclass(frozen=True)
class Scale(Pass):
    by: float = 1.0
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        return program.rewritten(traced(self.by))


@dataclass(frozen=True)
class ExactScale(Scale):
    exact = True


def run(verify: Verify, *passes: Pass) -> None:
    program = Program(traced(), (torch.arange(6.0).reshape(2, 3),))
    Pipeline(passes).run(program, Context(), (verify,))


def test_verify_records_drift() -> None:
    verify = Verify()
    run(verify, Look(), Scale(1.5))
    assert verify.drift == {NAME: pytest.approx(0.5)}


def test_verify_holds_exact_passes_to_their_word() -> None:
    verify = Verify()
    run(verify, ExactScale(1.0), ExactScale(1 + 1e-6))
    assert verify.drift[NAME] < 1e-5
    for by in (1.01, float("nan")):
        with pytest.raises(NumericsError, match=r"'test-verify\{by=.*\}' promises to leave the outputs as they are"):
            run(Verify(), ExactScale(by))


def test_verify_sees_a_change_of_shape() -> None:
    @dataclass(frozen=True)
    class Narrow(Pass):
        rewrites = True
        exact = True

        def run(self, program: Program, context: Context) -> Program:
            return program.rewritten(fx.symbolic_trace(nn.Flatten(0)))

    with pytest.raises(NumericsError, match="moved them by inf"):
        run(Verify(), Narrow())


def test_no_instrument_is_needed() -> None:
    program = Program(traced(), (torch.arange(6.0).reshape(2, 3),))
    Pipeline((Scale(1.5), ExactScale(1.5))).run(program, Context())
    with pytest.raises(NumericsError, match=r"moved them by 1\.0e-02 of the largest, more than 1e-04"):
        Pipeline((ExactScale(1.01),)).run(program, Context())


def test_examples_of_zeros_hide_nothing() -> None:
    with pytest.raises(NumericsError, match="a fault of the pass"):
        Pipeline((ExactScale(1.01),)).run(Program(traced(), (torch.zeros(2, 3),)), Context())


def test_exact_passes_do_not_add_up() -> None:
    program = Program(traced(), (torch.arange(6.0).reshape(2, 3),))
    steps = tuple(ExactScale(1 + number * 6e-5) for number in range(4))
    with pytest.raises(NumericsError, match="a fault of the pass"):
        Pipeline(steps).run(program, Context())


@dataclass(frozen=True)
class Swap(Pass):
    """Replaces the network by another."""

    other: Callable[[Tensor], Tensor]
    rewrites = True
    exact = True

    def __str__(self) -> str:
        return "swap"

    def run(self, program: Program, context: Context) -> Program:
        return program.rewritten(traced_of(self.other))


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def traced_of(function: Callable[[Tensor], Tensor]) -> fx.GraphModule:
    return fx.symbolic_trace(Of(function))


X = torch.linspace(-2.25, 2, 8).reshape(2, 4)


def swapped(before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor], x: Tensor = X) -> None:
    Pipeline((Swap(after),)).run(Program(traced_of(before), (x,)), Context())


def test_a_pass_is_not_to_blame_for_what_was_no_number_before() -> None:
    swapped(lambda x: x.sqrt(), lambda x: x.sqrt() * 1.0)
    swapped(lambda x: x.sqrt(), lambda x: x.clamp_min(0).sqrt())
    with pytest.raises(NumericsError, match="moved them by nan"):
        swapped(lambda x: x.clamp_min(0).sqrt(), lambda x: x.sqrt())


def test_equal_infinities_agree() -> None:
    def barred(x: Tensor) -> Tensor:
        return x.masked_fill(x < 0, -math.inf)

    swapped(barred, lambda x: barred(x) * 1.0)
    for other in (lambda x: barred(x).abs(), lambda x: x, lambda x: barred(x) * 1.01):
        with pytest.raises(NumericsError, match="a fault of the pass"):
            swapped(barred, other)


def test_rounding_of_the_network_itself_is_no_fault() -> None:
    """1e7 + x keeps one decimal in float32, so the order of the sums shows."""
    swapped(lambda x: (x + 1e7) - 1e7, lambda x: x)
    with pytest.raises(NumericsError):
        swapped(lambda x: (x + 1e2) - 1e2, lambda x: 1.01 * x)


@pytest.mark.parametrize(("dtype", "by"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2), (torch.float64, 1e-10)])
def test_each_precision_has_its_limit(dtype: torch.dtype, by: float) -> None:
    swapped(lambda x: 3 * x, lambda x: 3 * (1 + by) * x, X.to(dtype))
    with pytest.raises(NumericsError):
        swapped(lambda x: 3 * x, lambda x: 3 * (1 + 100 * by) * x, X.to(dtype))


def test_classes_are_counted_by_how_many_change() -> None:
    classes = torch.arange(10_000).reshape(1, -1)
    other = classes.clone()
    other[0, 0] = 7
    assert drift([classes], [other]) == pytest.approx(1e-4)
    assert drift([classes], [classes.float()]) == math.inf


def test_the_captured_graph_is_compared_with_the_network() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    program = capture(network, (X,))
    assert program.original is not None
    other = Original(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), program.original.args, {})
    with pytest.raises(
        NumericsError, match=r"differs from the network by .* at batch 2 or 3 or 2: a fault of the capture"
    ):
        Pipeline((Look(),)).run(replace(program, original=other), Context(), (Verify((torch.ones(3, 4),)),))
    Pipeline((Look(),)).run(program, Context())


def test_an_exported_program_is_its_own_reference() -> None:
    class Nested(nn.Module):
        def forward(self, pair: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
            return {"sum": pair["x"] + scale * pair["y"], "x": pair["x"]}

    given = ({"x": X, "y": 2 * X}, 3)
    shapes = ({"x": {0: torch.export.Dim.AUTO}, "y": {0: torch.export.Dim.AUTO}}, None)
    exported = torch.export.export(Nested(), given, dynamic_shapes=shapes)
    program = capture(exported, (X, 2 * X))
    assert program.original is not None
    found = program.original.outputs((X[:1], X[:1]))
    torch.testing.assert_close(found, [4 * X[:1], X[:1]])
    Pipeline((Look(),)).run(program, Context())


def test_a_network_that_writes_into_its_input_keeps_ours() -> None:
    x = X.clone()
    assert torch.equal(Original(nn.ReLU(inplace=True), (x,), {}).outputs((x,))[0], X.relu())
    assert torch.equal(x, X)
