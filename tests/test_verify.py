"""The instrument that holds exact passes to their word, and records the drift of the others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, fx, nn

from prunec.errors import NumericsError
from prunec.pipeline import Pass, Pipeline, Verify
from prunec.program import Context, Program

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
