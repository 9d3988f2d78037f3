"""The executor of graphs: values that nothing reads are dropped, hooks replace nodes, and forks share their prefix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from prunec.frontend.capture import capture
from prunec.ir import graph
from prunec.ir.interpreter import Interpreter, Live

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Two layers with the same weight, around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(self.first(x).relu()) + x)
        return out


NET = Residual().eval()
MODULE = capture(NET, (X,)).module


def test_it_computes_the_network_and_holds_only_what_is_read_later() -> None:
    walk = Interpreter(MODULE)
    values, most = walk.start((X,)), 0
    for node in walk.nodes:
        walk.step(node, values)
        most = max(most, len(values))
    assert torch.equal(graph.outputs(MODULE, values)[0], NET(X))
    assert (len(values), most) == (1, 2)
    with pytest.raises(KeyError):
        values[walk.nodes[0]]


def test_a_hook_changes_what_a_node_gives() -> None:
    def halved(node: fx.Node, values: Live) -> Any:
        return graph.run_node(MODULE, node, values) / 2

    last = Interpreter(MODULE).nodes[-1].name
    assert torch.equal(Interpreter(MODULE, {last: halved})((X,))[0], NET(X) / 2)


def test_forks_share_what_came_before_and_read_weights_of_their_own() -> None:
    walk = Interpreter(MODULE)
    values = walk.start((X,))
    walk.advance(values, 0, walk.places[walk.nodes[-1].name])
    weight = torch.ones(2, 3)
    forked = walk.finish(walk.fork(values, {"last.weight": weight}), len(walk.nodes) - 1)
    before = NET.first(NET.first(X).relu()) + X
    torch.testing.assert_close(forked[0], nn.functional.linear(before, weight, NET.last.bias))
    assert torch.equal(walk.finish(values, len(walk.nodes) - 1)[0], NET(X))


def test_a_node_computed_ahead_is_not_computed_again() -> None:
    calls = []

    def counted(node: fx.Node, values: Live) -> Any:
        calls.append(node.name)
        return graph.run_node(MODULE, node, values)

    first = Interpreter(MODULE).nodes[0].name
    walk = Interpreter(MODULE, {first: counted})
    values = walk.start((X,))
    ahead = walk.compute(walk.nodes[0], values)
    assert values[graph.placeholders(MODULE)[0]] is X
    walk.finish(values)
    assert torch.equal(ahead, NET.first(X))
    assert calls == [first]
