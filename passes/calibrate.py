"""One sweep of the dense network over the calibration images: means and covariances of what every layer reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from prunec import graph
from prunec.channels.analysis import layer_of
from prunec.channels.spaces import Channels, Contraction
from prunec.facts import Statistics
from prunec.pipeline import Pass
from prunec.program import Context, Program
from prunec.readers import Blocks, readers_of
from prunec.statistics import store
from prunec.statistics.moments import Moments, positions_per_sample
from prunec.statistics.patches import Layer, Positions
from prunec.statistics.sweep import channels_last


@dataclass(frozen=True)
class Calibrate(Pass):
    """Collect the dense statistics; `rows` sampled positions a layer at least, where the images have so many."""

    rows: int = 4096

    requires = (Channels,)
    provides = (Statistics,)

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Statistics` fact."""
        path = store.place(program, context, self.rows)
        if path is not None and path.is_file():
            moments = store.load(path)
        else:
            moments = self._measured(program, context)
            if path is not None:
                store.save(path, moments)
        few = _starved(program.fact(Channels), moments)
        context.notes["calibrate"] = {"fewer_rows_than_columns": few}
        return program.knowing(Statistics(moments))

    def _measured(self, program: Program, context: Context) -> dict[str, Moments]:
        """One sweep."""
        channels, images = program.fact(Channels), context.images()
        wanted = {one.node: one for space in channels.prunable for one in readers_of(channels, space)}
        wanted |= {one.node: one for one in channels.contractions if one.groups == 1 and not Blocks.of(one).folded}
        count = partial(positions_per_sample, minimum=self.rows, samples=len(images))
        visitor = _Visitor(program.module, wanted, count, context.seed)
        batches = -(-len(images) // context.batch)
        for _, batch in zip(context.track(range(batches), "calibrate"), images.batches(context.batch), strict=True):
            with torch.no_grad():
                visitor.samples = len(batch[0])
                visitor.run(*channels_last(program.module, batch))
        return {name: moments.on_cpu() for name, moments in visitor.moments.items()}


def _starved(channels: Channels, moments: Mapping[str, Moments]) -> list[dict[str, Any]]:
    """For the report: the layers that saw fewer rows than they have columns."""
    known = [(layer_of(one.weight), moments[one.node]) for one in channels.contractions if one.node in moments]
    return [{"layer": layer, "rows": one.count, "columns": one.width} for layer, one in known if one.count < one.width]


class _Visitor(fx.Interpreter):
    """Runs the graph for one batch and samples the inputs of the wanted nodes."""

    def __init__(
        self, module: fx.GraphModule, wanted: Mapping[str, Contraction], count: Callable[[int], int], seed: int
    ) -> None:
        super().__init__(module)
        self.wanted, self.count = wanted, count
        self.graph_module = module
        self.layers = {
            node.name: Layer.of(module, node, wanted[node.name], wanted[node.name].groups)
            for node in module.graph.nodes
            if node.name in wanted
        }
        self.moments = {name: Moments() for name in wanted}
        self.samples = 0  # of the batch
        self.generator = torch.Generator().manual_seed(seed)

    def run_node(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return graph.attribute(self.graph_module, str(node.target))
        one = self.wanted.get(node.name)
        if one is None:
            return super().run_node(node)
        source: Tensor = self.env[node.all_input_nodes[0]]
        value = super().run_node(node)
        layer = self.layers[node.name]
        at = Positions.draw(layer.space(value), self.count(Blocks.of(one).columns) * self.samples, self.generator)
        self.moments[node.name].add(Blocks.of(one).rows(layer.rows(source, at)))
        return value
