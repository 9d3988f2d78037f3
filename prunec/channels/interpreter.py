"""Abstract interpreter: run the graph once, in order, on labels instead of numbers.

Rules are one file per family, looked up by operator; an operator without a rule freezes its inputs, with a sentence as
the reason. Source: DESIGN, "Channel analysis is abstract interpretation".
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..errors import first_line
from ..frontend.opaque import is_opaque
from ..ir import graph
from ..ir.program import Program
from .labels import Labels, along, compress, fixed, varying
from .spaces import CARRIES, CONSUMES, PRODUCES

Rule = Callable[["Walk", fx.Node], Any]
REPORT = "please report the network"
ONLY = "it is the only channel of a tensor"


@dataclass(frozen=True)
class Mixed:
    """Layer with a weight: input and output labels, and whether whole groups are removed."""

    node: fx.Node
    inputs: Tensor
    outputs: Tensor
    by_group: bool


class Walk:
    """State of one run: labels of every value and every touched parameter."""

    def __init__(self, program: Program, refused: Mapping[str, str] | None = None) -> None:
        self.module = program.module
        self.refused = refused or {}  # nodes that cannot be narrowed, with the reason
        self.samples = len(program.example_inputs[0])
        self.examples = graph.example_values(program.module, program.example_inputs)
        self.labels = Labels()
        self.values: dict[fx.Node, Any] = {}
        self.touched: dict[tuple[str, int, str], Tensor] = {}  # (parameter, dim, role) → labels of its rows
        self.mixed: list[Mixed] = []
        self.products: list[tuple[fx.Node, float, Tensor, Tensor]] = []  # node, MACs, labels of both factors
        self.over: list[fx.Node] = []  # operators that normalise or reduce over the channels
        self.summed: list[Tensor] = []  # labels over which a product of activations sums
        self.reads: list[fx.Node] = []  # operators that mix their channels

    def run(self, rule_of: Callable[[fx.Node], Rule | None]) -> None:
        """Interpret every node, then tie the labels that no operator has tied."""
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.fixed_like(node)
            elif node.op == "call_function":
                self.values[node] = self._apply(rule_of(node), node)
            elif node.op == "output":
                self._freeze_all(node.all_input_nodes, "it reaches the network's output")
        self._settle_all()
        self._touch_bare_parameters()
        self._settle_all()

    def _apply(self, rule: Rule | None, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            values = self.values[node.all_input_nodes[0]]
            return None if values is None else values[node.args[1]]
        if not any(True for _ in tensors(self.examples[node])):
            return None
        why = self._why_opaque(rule, node)
        if why is not None or rule is None:
            return self.opaque(node, str(why))
        try:
            return rule(self, node)
        except (ArithmeticError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            return self.opaque(node, f"the channel rule of {name_of(node)} fails on it ({first_line(error)}); {REPORT}")

    def _why_opaque(self, rule: Rule | None, node: fx.Node) -> str | None:
        """Return why a node is opaque, or None."""
        if (path := is_opaque(node)) is not None:
            return f"{path} was left as it is (--opaque)"
        if node.name in self.refused:
            return self.refused[node.name]
        return f"operator {name_of(node)} has no channel rule" if rule is None else None

    def opaque(self, node: fx.Node, reason: str) -> Any:
        """Freeze the inputs of `node`, and return frozen labels for its value."""
        self._freeze_all(node.all_input_nodes, reason)
        for parameter in [source for source in node.all_input_nodes if source.op == "get_attr"]:
            self.pin(parameter)
        return self.fixed_like(node)

    def fixed_like(self, node: fx.Node) -> Any:
        """Return frozen labels in the shape of the value of `node`."""
        value = self.examples[node]
        if isinstance(value, Tensor):
            return fixed(value.shape)
        return [fixed(one.shape) for one in tensors(value)] if isinstance(value, (list, tuple)) else None

    def _freeze_all(self, nodes: list[fx.Node], reason: str) -> None:
        for source in nodes:
            for labels in tensors(self.values.get(source)):
                self.labels.freeze(labels, reason)

    def value(self, node: Any) -> Any:
        """Return the labels of a node's value; new labels for a bare parameter."""
        if node not in self.values and node.op == "get_attr":
            self.bare(node, set(range(-self.examples[node].dim(), 0)))
        return self.values.get(node)

    def bare(self, node: fx.Node, axes: set[int]) -> Tensor:
        """Return labels of a parameter in elementwise operators, free along `axes` (from the right)."""
        shape = self.examples[node].shape
        if node not in self.values:
            sizes = [size if axis - len(shape) in axes else 1 for axis, size in enumerate(shape)]
            count = math.prod(sizes)
            new = self.labels.fresh(count).reshape(sizes).expand(shape) if count > 1 else fixed(shape)
            self.values[node] = compress(new)
        labels = self.values[node]
        rest = [axis for axis in varying(labels) if axis - len(shape) not in axes]
        tied: Tensor = self.labels.tie(labels, rest)
        return tied

    def settle(self, labels: Tensor) -> Tensor:
        """Return compressed labels of a new value."""
        return compress(self.labels.find(labels))

    def vector(self, labels: Tensor, dim: int) -> Tensor | None:
        """Return the labels along `dim`, others tied; None if they vary along others only."""
        dim %= labels.dim()
        axes = varying(labels)
        if axes and dim not in axes:
            return None
        tied = self.labels.tie(labels, [axis for axis in axes if axis != dim])
        return tied[tuple(slice(None) if axis == dim else 0 for axis in range(labels.dim()))]

    def touch(self, parameter: Any, dim: int, labels: Tensor, role: str) -> None:
        """Record that the rows of `parameter` along `dim` have these `labels`."""
        if parameter is None:
            return
        name = str(parameter.target)
        for known_role in (PRODUCES, CARRIES, CONSUMES):
            if (known := self.touched.get((name, dim, known_role))) is not None:
                self.labels.join(known, labels, "its parameter is shared with a layer whose channels are fixed")
        self.touched.setdefault((name, dim, role), labels)

    def pin(self, parameter: fx.Node) -> None:
        """Freeze all rows of a parameter."""
        for dim, size in enumerate(self.examples[parameter].shape):
            self.touch(parameter, dim, fixed([size]), CARRIES)

    def product(self, node: fx.Node, multiplications: float, a: Tensor | None = None, b: Tensor | None = None) -> None:
        """Record `multiplications` of `node` over the batch, proportional to kept `a` and `b`."""
        one = torch.zeros(1, dtype=torch.int64)
        factors = [one if labels is None else labels for labels in (a, b)]
        self.products.append((node, multiplications / self.samples, factors[0], factors[1]))

    def result(self, node: fx.Node, vector: Tensor, dim: int) -> Tensor:
        """Return labels for the value of `node`, equal to `vector` along `dim`."""
        shape = self.examples[node].shape
        return self.settle(along(vector, dim % len(shape), shape))

    def _settle_all(self) -> None:
        """Make every value rectangular; freeze single channels. Ties may need further ties.

        Ends, since each round but the last joins two labels or more, of which there are finitely many.
        """
        while True:
            before = self.labels.joins
            for value in self.values.values():
                for labels in tensors(value):
                    self.labels.rectangular(labels)
            if self.labels.joins == before:
                break
        for value in self.values.values():
            for labels in tensors(value):
                if labels.numel() and not varying(settled := self.settle(labels)):
                    self.labels.freeze(settled[(0,) * labels.dim()].reshape(1), ONLY)

    def _touch_bare_parameters(self) -> None:
        """Touch the parameters of elementwise operators with their joined labels."""
        for node, labels in list(self.values.items()):
            if node.op != "get_attr":
                continue
            settled = self.settle(labels)
            for dim in varying(settled):
                vector = self.vector(settled, dim)
                assert vector is not None
                self.touch(node, dim, vector, CARRIES)


def name_of(node: fx.Node) -> str:
    """Return an operator's short name, such as aten.relu."""
    return ".".join(str(node.target).split(".")[:2])


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a value, list or None."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors(one)


def overload_packet(node: fx.Node) -> Any:
    """Return the operator without its overload: aten.add for aten.add.Tensor."""
    return node.target.overloadpacket if isinstance(node.target, torch._ops.OpOverload) else node.target
