"""Run a captured graph node by node, and drop each value after its last reader.

A hook replaces the computation of one node: it reads the live values, and may change what the node reads or returns. A
run may stop anywhere and continue; its forks share all values computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, fx

from .graph import attribute, outputs, placeholders, run_node


class Live(dict[fx.Node, Any]):
    """Live values of one run.

    A parameter without one is read from the network, in its current state.
    """

    def __init__(self, module: fx.GraphModule, values: Mapping[fx.Node, Any]) -> None:
        super().__init__(values)
        self.module = module

    def __missing__(self, node: fx.Node) -> Any:
        if node.op != "get_attr":
            raise KeyError(node)
        return attribute(self.module, str(node.target))

    def read(self, tensors: Mapping[str, Tensor]) -> None:
        """Read these tensors in the place of the network's own parameters and buffers."""
        for node in self.module.graph.nodes if tensors else ():
            if node.op == "get_attr" and node.target in tensors:
                self[node] = tensors[str(node.target)]


Hook = Callable[[fx.Node, Live], Any]
NONE: Mapping[str, Hook] = MappingProxyType({})


class Interpreter:
    """Executor of a graph by node index; `hooks` replace the computation of some nodes."""

    def __init__(self, module: fx.GraphModule, hooks: Mapping[str, Hook] = NONE) -> None:
        self.module, self.hooks = module, hooks
        self.nodes: list[fx.Node] = [node for node in module.graph.nodes if node.op == "call_function"]
        self.places = {node.name: place for place, node in enumerate(self.nodes)}
        self._dying = _last_uses(module.graph.nodes)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the network; return the floating-point tensors among its outputs."""
        return self.finish(self.start(inputs))

    def start(self, inputs: Sequence[Tensor]) -> Live:
        """Return the values before the first node."""
        return Live(self.module, dict(zip(placeholders(self.module), inputs, strict=True)))

    def fork(self, values: Live, tensors: Mapping[str, Tensor]) -> Live:
        """Copy a run; from here on the copy reads `tensors` by name."""
        found = Live(self.module, values)
        found.read(tensors)
        return found

    def advance(self, values: Live, start: int = 0, stop: int | None = None) -> None:
        """Compute nodes start … stop - 1, except those that have a value already."""
        for node in self.nodes[start:stop]:
            self.step(node, values)

    def step(self, node: fx.Node, values: Live, inside: Live | None = None) -> None:
        """Compute one node, from values `inside` if given; drop values without further readers."""
        self.compute(node, values, inside)
        for dead in self._dying.get(node, ()):
            values.pop(dead, None)

    def compute(self, node: fx.Node, values: Live, inside: Live | None = None) -> Any:
        """Return the value of a node, possibly ahead of the run, keeping its inputs."""
        if node not in values:
            hook = self.hooks.get(node.name)
            read = values if inside is None else inside
            values[node] = run_node(self.module, node, read) if hook is None else hook(node, read)
        return values[node]

    def finish(self, values: Live, start: int = 0) -> list[Tensor]:
        """Run to the end; return the floating-point tensors among the outputs."""
        self.advance(values, start)
        return outputs(self.module, values)


def _last_uses(nodes: Iterable[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Return for each node the values that it is the last to read."""
    last: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for source in node.all_input_nodes:
            last[source] = node
        last.setdefault(node, node)
    dying: dict[fx.Node, list[fx.Node]] = {}
    for source, node in last.items():
        dying.setdefault(node, []).append(source)
    return dying
