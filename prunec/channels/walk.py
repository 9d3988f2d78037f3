"""The abstract interpreter: walk the graph once, in order, with labels in the place of numbers.

Rules live in one file a family and are found by operator; an operator without a rule freezes what reaches it, with
the sentence that says so. Source: DESIGN, "Channel analysis is abstract interpretation".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from .. import graph
from ..program import Program
from .labels import FIXED, Labels, along, fixed, varying
from .spaces import CARRIES, CONSUMES, PRODUCES

Rule = Callable[["Walk", fx.Node], Any]


class Walk:
    """The state of one walk: a label tensor for every value, and the labels of every parameter touched."""

    def __init__(self, program: Program) -> None:
        self.module = program.module
        self.examples = graph.example_values(program.module, program.example_inputs)
        self.labels = Labels()
        self.values: dict[fx.Node, Any] = {}
        self.touched: dict[tuple[str, int, str], Tensor] = {}  # (parameter, dim, role) → labels of its rows
        self.contracted: list[tuple[fx.Node, Tensor, Tensor, bool]] = []  # node, input and output labels, by group

    def run(self, rule_of: Callable[[fx.Node], Rule | None]) -> None:
        """Interpret every node."""
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = fixed(self.examples[node].shape)
            elif node.op == "call_function":
                self.values[node] = self._apply(rule_of(node), node)
            elif node.op == "output":
                self._freeze_all(node.all_input_nodes, "it reaches the network's output")
        self._touch_bare_parameters()

    def _apply(self, rule: Rule | None, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]  # type: ignore[index]
        if not any(True for _ in _tensors(self.examples[node])):
            return None
        if rule is None:
            return self.opaque(node, f"operator {name_of(node)} has no channel rule")
        return rule(self, node)

    def opaque(self, node: fx.Node, reason: str) -> Any:
        """Freeze whatever reaches `node`; nothing in its value can be removed."""
        self._freeze_all(node.all_input_nodes, reason)
        return self.fixed_like(node)

    def fixed_like(self, node: fx.Node) -> Any:
        """Labels of the value of `node` in which nothing can be removed."""
        value = self.examples[node]
        return fixed(value.shape) if isinstance(value, Tensor) else [fixed(one.shape) for one in _tensors(value)]

    def _freeze_all(self, nodes: list[fx.Node], reason: str) -> None:
        for source in nodes:
            for labels in _tensors(self.value(source)):
                self.labels.freeze(labels, reason)

    def value(self, node: Any) -> Any:
        """The labels of a node's value; a bare parameter gets new ones for each element when first asked for."""
        if node not in self.values and node.op == "get_attr":
            shape = self.examples[node].shape
            count = shape.numel()
            self.values[node] = self.labels.fresh(count).reshape(shape) if count > 1 else fixed(shape)
        return self.values.get(node)

    def settle(self, labels: Tensor) -> Tensor:
        """Labels of a new value, made rectangular; the only channel of a tensor is frozen."""
        labels = self.labels.rectangular(labels)
        if not varying(labels) and labels.numel():
            only = labels[(0,) * labels.dim()]
            self.labels.freeze(only.reshape(1), "it is the only channel of a tensor")
            return fixed(labels.shape)
        return labels

    def vector(self, labels: Tensor, dim: int) -> Tensor | None:
        """The labels along `dim`, or None where they vary along another dimension."""
        axes = varying(labels)
        dim %= labels.dim()
        if any(axis != dim for axis in axes):
            return None
        return labels[tuple(slice(None) if axis == dim else 0 for axis in range(labels.dim()))]

    def touch(self, parameter: Any, dim: int, labels: Tensor, role: str) -> None:
        """Record that the rows of `parameter` along `dim` belong to `labels`."""
        if parameter is None:
            return
        name = str(parameter.target)
        for known_role in (PRODUCES, CARRIES, CONSUMES):
            if (known := self.touched.get((name, dim, known_role))) is not None:
                self.labels.join(known, labels, "its parameter is shared with a layer whose channels are fixed")
        self.touched.setdefault((name, dim, role), labels)

    def result(self, node: fx.Node, vector: Tensor, dim: int) -> Tensor:
        """Labels of the value of `node` that vary along `dim` as `vector` says."""
        shape = self.examples[node].shape
        return self.settle(along(vector, dim % len(shape), shape))

    def _touch_bare_parameters(self) -> None:
        """Parameters met by elementwise operators carry the labels that they were joined with."""
        for node, labels in list(self.values.items()):
            if node.op != "get_attr":
                continue
            settled = self.labels.rectangular(labels)
            for dim in varying(settled):
                vector = self.vector(settled, dim)
                assert vector is not None
                self.touch(node, dim, vector, CARRIES)


def name_of(node: fx.Node) -> str:
    """An operator's name as a person would write it: aten.relu."""
    return ".".join(str(node.target).split(".")[:2])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def is_uniform(labels: Tensor) -> bool:
    """Whether every element has the same label."""
    return not varying(labels)


def is_fixed(labels: Tensor) -> bool:
    """Whether no element can be removed."""
    return is_uniform(labels) and (not labels.numel() or int(labels[(0,) * labels.dim()]) == FIXED)


def overload_packet(node: fx.Node) -> Any:
    """The operator without its overload: aten.add for aten.add.Tensor."""
    return node.target.overloadpacket if isinstance(node.target, torch._ops.OpOverload) else node.target
