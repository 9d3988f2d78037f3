"""Move slices up, to compute only the positions that are read.

After the last attention of a vision transformer only the class token is read. Its slice moves up past every operator
that treats positions independently (`prunec.channels.windows`), so that these layers compute one position. The outputs
are unchanged; if no product gets smaller, so is the network.

A target is a share of the network before: the fact `Unhoisted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from prunec.channels.analysis import analyse
from prunec.channels.interpreter import overload_packet
from prunec.channels.windows import MULTIPLY, PICKS, SIZED, Needs, Shapes, Window, aten, ends_of
from prunec.data.noise import noise_like
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.ir.unhoisted import Unhoisted
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.statistics.facts import norms_anew

Wanted = Mapping[fx.Node, Window]


@dataclass(frozen=True)
class HoistSlices(Pass):
    """Move slices up, to skip positions that nothing reads; the outputs are unchanged."""

    rewrites = True
    exact = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network with fewer positions and the `Unhoisted` fact, or `program`."""
        if not any(overload_packet(node) in PICKS for node in program.module.graph.nodes):
            return program
        module = graph.rebuild(program.module, {})
        shapes = _shapes(program, module)
        computed, needs = _demanded(module, shapes)
        if not any(overload_packet(node) in MULTIPLY for node in computed):
            return program
        for node in list(module.graph.nodes):
            _rewrite(node, shapes, computed, needs.get(node, {}))
        before = Unhoisted(program.knowing(analyse(program)))
        return program.rewritten(graph.without_dead(module), *norms_anew(program), before)


def _shapes(program: Program, module: fx.GraphModule) -> Shapes:
    inputs = program.example_inputs
    other = noise_like(inputs, len(inputs[0]) + 1) if program.dynamic_batch else inputs
    return Shapes([graph.example_values(module, inputs), graph.example_values(module, other)])


def _demanded(module: fx.GraphModule, shapes: Shapes) -> tuple[Wanted, dict[fx.Node, Needs]]:
    """Return the window each node computes, and the windows of its inputs by node."""
    read: dict[fx.Node, Window | None] = {}
    computed: dict[fx.Node, Window] = {}
    needs: dict[fx.Node, Needs] = {}
    for node in reversed(module.graph.nodes):
        if node.op == "call_function":
            needs[node] = _needs(node, read.get(node), shapes, computed)
        for source in node.all_input_nodes:
            window = needs.get(node, {}).get(source)
            known = read.get(source, window)
            read[source] = shapes.worth(source, None if window is None else window.joined(known))
    return computed, needs


def _needs(node: fx.Node, window: Window | None, shapes: Shapes, computed: dict[fx.Node, Window]) -> Needs:
    """Return the windows that a node reads of its inputs to give `window`. It is `computed` on these if possible."""
    picked = shapes.picked(node)
    if picked is not None:
        return {node.all_input_nodes[0]: picked}
    found = None if window is None else shapes.needs(node, window)
    if found is None or window is None:
        return {}
    computed[node] = window
    return found


def _rewrite(node: fx.Node, shapes: Shapes, computed: Wanted, needs: Needs) -> None:
    """Update a node's inputs and sizes to the windows computed."""
    picks = node not in computed and shapes.picked(node) is not None
    for source, window in needs.items():
        has = computed.get(source)
        start = 0 if has is None else has.start
        if picks and has is not None:
            _shift(node, window, start)
        elif not picks and has != window:
            with node.graph.inserting_before(node):
                ends = window.start - start, window.stop - start
                part = node.graph.call_function(aten.slice.Tensor, (source, window.axis, *ends))
            node.replace_input_with(source, part)
    _resize(node, computed)


def _shift(pick: fx.Node, window: Window, start: int) -> None:
    """Shift a `select` or `slice` to an input that begins at `start`."""
    ends = dict(zip(ends_of(pick), (window.start - start, window.stop - start, 1), strict=False))
    source, *_ = pick.args
    pick.args, pick.kwargs = (source, window.axis, *ends.values()), {}


def _resize(node: fx.Node, computed: Wanted) -> None:
    """Update the size of a reshape to that of its output."""
    place = SIZED.get(overload_packet(node))
    if place is not None and node in computed:
        sizes = list(node.args[place])  # type: ignore[arg-type]
        sizes[computed[node].axis] = len(computed[node])
        node.args = (*node.args[:place], sizes, *node.args[place + 1 :])
