"""One sweep of the dense network over the calibration images: means and covariances of what every layer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from prunec import graph
from prunec.channels.spaces import Channels, Contraction
from prunec.facts import Statistics
from prunec.pipeline import Pass
from prunec.program import Context, Program
from prunec.readers import Blocks, readers_of
from prunec.statistics.moments import Moments, per_sample, rows_wanted
from prunec.statistics.patches import Layer, Positions


@dataclass(frozen=True)
class Calibrate(Pass):
    """Collect the dense statistics; `rows` sampled positions a layer at least."""

    rows: int = 4096

    requires = (Channels,)
    provides = (Statistics,)

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Statistics` fact."""
        channels, images = program.fact(Channels), context.images()
        wanted = {one.node: one for space in channels.prunable for one in readers_of(channels, space)}
        visitor = _Visitor(program.module, wanted, partial(self._per_sample, samples=len(images)), context.seed)
        batches = -(-len(images) // context.batch)
        for _, batch in zip(context.track(range(batches), "calibrate"), images.batches(context.batch), strict=True):
            with torch.no_grad():
                visitor.run(*batch)
        return program.knowing(Statistics(visitor.moments))

    def _per_sample(self, one: Contraction, samples: int) -> int:
        return per_sample(rows_wanted(Blocks.of(one).columns, self.rows), samples)


class _Visitor(fx.Interpreter):
    """Runs the graph for one batch and samples the inputs of the wanted nodes."""

    def __init__(self, module: fx.GraphModule, wanted: Mapping[str, Contraction], count: Any, seed: int) -> None:
        super().__init__(module)
        self.wanted, self.count = wanted, count
        self.moments = {name: Moments() for name in wanted}
        self.generator = torch.Generator().manual_seed(seed)

    def run_node(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return graph.attribute(self.wanted_module(), str(node.target))
        one = self.wanted.get(node.name)
        if one is None:
            return super().run_node(node)
        source: Tensor = self.env[node.all_input_nodes[0]]
        value = super().run_node(node)
        kernel = tuple(graph.attribute(self.wanted_module(), one.weight).shape[2:])
        layer = Layer.of(node, one, kernel, one.groups)
        at = Positions.draw(layer.space(value), self.count(one), self.generator)
        self.moments[node.name].add(Blocks.of(one).rows(layer.rows(source, at)))
        return value

    def wanted_module(self) -> fx.GraphModule:
        module = self.module
        assert isinstance(module, fx.GraphModule)
        return module
