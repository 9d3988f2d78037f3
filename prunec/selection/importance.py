"""Compute the importance of each output position of a layer, for sampling rows.

    share_p = mean over images of |∂L/∂y_p|² / sum over p        L: the surprise at an answer drawn from the outputs

In the last layers of a vision transformer only the class token reaches the output, and even draws would fit values that
nothing reads. Half of the draws are even, so that many different rows are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from ..channels.spaces import Channels
from ..ir import graph
from ..ir.interpreter import Interpreter, Live
from ..ir.program import Program
from ..pipeline.context import Context
from ..statistics.memo import once
from ..statistics.patches import Layer
from .gradients import surprise

IMAGES = 32
STEP = 8  # images at a time: all values are kept for the slopes
SPECIAL = 4.0  # times an even share, and a position is drawn more often


def by_position(program: Program, context: Context) -> Mapping[str, Tensor]:
    """Return the share of each output position, float64 [positions], by node.

    Only layers with special positions and an image axis are listed; none if the network cannot be differentiated.
    """
    images = context.fitting
    return once(program, ("importance", images, context.seed), lambda: _measured(program, context))


def _measured(program: Program, context: Context) -> dict[str, Tensor]:
    images = context.fitting.take(IMAGES, context.seed)
    generator = torch.Generator().manual_seed(context.seed)
    total: dict[str, Tensor] = {}
    for batch in images.batches(program.only_batch or STEP):
        try:
            found = _slopes(program, batch, generator)
        except RuntimeError:  # an operator without a derivative
            return {}
        for name, power in found.items():
            total[name] = total.get(name, 0.0) + power
    shares = {name: power / power.sum() for name, power in total.items() if bool(power.sum() > 0)}
    return {name: share for name, share in shares.items() if float(share.max()) * len(share) > SPECIAL}


def _slopes(program: Program, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """Return squared slopes by node and position, summed over images and channels."""
    module = program.module
    layers = {one.node: one for one in program.fact(Channels).contractions}
    read: dict[fx.Node, Tensor] = {}

    def record(node: fx.Node, values: Live) -> Tensor:
        y = graph.run_node(module, node, values)
        read[node] = y if y.requires_grad else y.detach().requires_grad_()
        return read[node]

    with torch.enable_grad():
        found = Interpreter(module, dict.fromkeys(layers, record))(batch)
        if not found or not read:  # classes alone, or nothing to weigh
            return {}
        loss = surprise(found, len(batch[0]), generator).sum()
    slopes = torch.autograd.grad(loss, list(read.values()), materialize_grads=True)
    powers = {}
    for node, slope in zip(read, slopes, strict=True):
        layer = Layer.of(module, node, layers[node.name], layers[node.name].groups)
        if len(slope) == len(batch[0]) and len(layer.space(slope)) > 1:
            powers[node.name] = slope.movedim(layer.channel_axis, -1).double().square().sum(-1).sum(0).flatten().cpu()
    return powers
