"""An opaque sub-module is a copy that its graph holds: nothing changes it later, and it goes with the graph."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import torch
from interfaces import body, with_weird
from torch import Tensor, nn

from prunec.frontend.capture import capture
from prunec.frontend.opaque import Opaque, paths_in
from prunec.ir.program import Program

IMAGES = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


class Stateful(nn.Module):
    """Has modes, and counts its calls."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        found: Tensor = self.norm(x) * self.calls
        return found


def with_state() -> nn.Module:
    return body(lambda m, x: m.fc(m.state(m.b(torch.relu(m.a(x)))).mean((2, 3))), state=Stateful())


def opaque_of(program: Program) -> list[Opaque]:
    return [node.target for node in program.module.graph.nodes if isinstance(node.target, Opaque)]


def test_an_opaque_module_is_let_go_with_its_network() -> None:
    model = with_weird()
    program = capture(model, (IMAGES[:2],), opaque=("neck.1",))
    gone = [weakref.ref(one) for one in (*opaque_of(program), *model.modules(), program.module)]
    assert len(opaque_of(program)) == 2
    del program, model
    gc.collect()
    assert [one() for one in gone if one() is not None] == []
    assert [name for name in vars(torch.ops.prunec) if name.startswith("opaque")] == []


def test_an_opaque_module_stays_in_eval_mode_and_as_it_was_captured() -> None:
    model: Any = with_state().train()
    program = capture(model, (IMAGES[:2],), opaque=("state",))
    assert model.state.training
    assert int(model.state.calls) == 0
    first = program.module(IMAGES)
    with torch.no_grad():
        model(IMAGES)
        model.state.norm.weight.mul_(2)
    torch.testing.assert_close(program.module(IMAGES), first, rtol=0, atol=0)
    torch.testing.assert_close(first, with_state()(IMAGES).detach(), rtol=1e-5, atol=1e-5)


def test_the_text_of_a_graph_tells_opaque_modules_of_other_weights_apart() -> None:
    model: Any = with_state()
    texts = [str(capture(model, (IMAGES[:2],), opaque=("state",)).module.graph) for _ in range(2)]
    model.state.norm.weight.data.mul_(2)
    other = capture(model, (IMAGES[:2],), opaque=("state",))
    assert texts[0] == texts[1] != str(other.module.graph)
    assert paths_in(other.module) == ("state",)


def test_an_opaque_module_that_cannot_be_copied_runs_all_the_same() -> None:
    model: Any = with_state()
    model.state.lock = threading.Lock()
    program = capture(model, (IMAGES[:2],), opaque=("state",))
    torch.testing.assert_close(program.module(IMAGES), with_state()(IMAGES).detach(), rtol=1e-5, atol=1e-5)
