"""Arguments that count channels: whatever is called with whatever, masking equals slicing, or the space is frozen.

Between a convolution and a linear layer stand one to three operators with random legal arguments.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from moving_calls import MAKERS, aten
from torch import Tensor, fx, nn

from prunec.channels.interpreter import REPORT
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.surgery.identity import prove
from prunec.surgery.trial import analysed

SEEDS = 3  # networks for each operator; 12 make a longer search
FREE = {"view", "narrow", "slice", "index_select", "slice_scatter", "select_scatter", "roll", "chunk", "tensor_split",
        "split", "channel_shuffle", "flip", "glu", "repeat_interleave", "cat", "flatten"}  # fmt: skip


class Builder:
    """A graph of ATen calls that is run while it is built."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.graph, self.root = fx.Graph(), nn.Module()
        self.image = torch.randn(2, 3, 4, 6, generator=self.generator)
        self.values: dict[fx.Node, Any] = {self.graph.placeholder("x"): self.image}

    def constant(self, value: Tensor) -> fx.Node:
        name = f"p{len(self.values)}"
        frozen = nn.Parameter(value, requires_grad=False)
        self.root.register_parameter(name, frozen) if value.is_floating_point() else self.root.register_buffer(
            name, value
        )
        node = self.graph.get_attr(name)
        self.values[node] = value
        return node

    def weights(self, *shape: int) -> fx.Node:
        return self.constant(torch.randn(shape, generator=self.generator))

    def call(self, target: Any, *args: Any) -> fx.Node:
        args = torch.fx.node.map_aggregate(args, lambda a: self.constant(a) if isinstance(a, Tensor) else a)
        node = self.graph.call_function(target, args)
        self.values[node] = target(*fx.map_arg(args, self.values.__getitem__))
        return node

    def step(self, node: fx.Node, name: str) -> fx.Node:
        """Return the value after one random operator call, or before an illegal one."""
        shape = tuple(self.values[node].shape)
        try:
            target, args = MAKERS[name](self.random, shape)
            if name in ("slice_scatter", "select_scatter"):
                region, places = args
                other = self.call(aten.neg.default, node) if self.random.random() < 0.5 else self.other(shape)
                args = (self.call(region, other, *places), *places)
            if name in ("cat", "stack"):
                other = self.constant(torch.ones(shape)) if self.random.random() < 0.3 else self.other(shape)
                found = self.call(target, [node, other], *args)
            elif name in ("zeros", "full"):
                found = self.call(aten.add.Tensor, node, self.call(target, *args))
            else:
                found = self.call(target, node, *args)
        except (RuntimeError, IndexError, ValueError):
            return node
        value = self.values[found]
        if isinstance(value, (list, tuple)):
            pieces = range(len(value)) if target is not aten.topk.default and target is not aten.sort.default else [0]
            found = self.call_item(found, self.random.choice(list(pieces)))
        small = self.values[found].numel() < 20_000 and self.values[found].numel() > 0
        return found if small and self.values[found].dim() > 1 else node

    def call_item(self, node: fx.Node, place: int) -> fx.Node:
        import operator

        return self.call(operator.getitem, node, place)

    def other(self, shape: tuple[int, ...]) -> fx.Node:
        """Another value of the shape, from the second convolution where it fits."""
        fitting = [one for one, value in self.values.items() if one.op != "get_attr" and value_shape(value) == shape]
        return self.random.choice(fitting)

    def program(self, names: list[str]) -> Program:
        image = next(iter(self.values))
        first, second = (self.call(aten.conv2d.default, image, self.weights(8, 3, 1, 1), self.weights(8)) for _ in "ab")
        node = first
        for name in names:
            node = self.step(node, name)
        value = self.values[node]
        dim = 1 if self.random.random() < 0.6 else self.random.randrange(value.dim())
        last = self.call(aten.movedim.int, node, dim, -1)
        read = self.call(aten.linear.default, last, self.weights(4, value.shape[dim]))
        also = self.call(aten.conv2d.default, second, self.weights(2, 8, 1, 1))
        self.graph.output((read, also))
        module = fx.GraphModule(self.root, self.graph)
        module.graph.eliminate_dead_code()
        graph.reshape_views(module)
        return Program(module, (self.image,), dynamic_batch=True)


def value_shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def checked(names: list[str], seed: int) -> bool:
    """Hold one network to the law; whether the first convolution can lose channels."""
    program = Builder(seed).program(names)
    channels = analysed(program)
    assert prove(program, channels, seed) < 1e-12, program.module.code
    assert not [one.frozen for one in channels.spaces if one.frozen and REPORT in one.frozen], program.module.code
    return channels.spaces[0].frozen is None


@pytest.mark.parametrize("name", MAKERS)
def test_one_operator_with_random_arguments(name: str) -> None:
    free = [checked([name], seed) for seed in range(SEEDS)]
    assert any(free) or name not in FREE, "nothing can be removed around it, whatever its arguments"


@pytest.mark.parametrize("seed", range(40))
def test_several_operators_with_random_arguments(seed: int) -> None:
    checked(random.Random(seed).choices(sorted(MAKERS), k=3), seed)
