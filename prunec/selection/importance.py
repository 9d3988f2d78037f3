"""How much each position of a layer's output matters to the answers, so that fits draw the rows that count.

    share_p = mean over images of |∂L/∂y_p|² / sum over p        L: the surprise at an answer drawn from the outputs

Of a vision transformer's last layers only the class token reaches the output; a fit to positions drawn evenly is one to
values that nothing reads. Half of the draws stay even, so that the number of different rows stays large.
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
    """Shares of the positions of each layer's output, float64 [positions], by node; of layers with special ones only.

    Empty for a network that cannot be differentiated, and left out where no axis of a layer holds the images.
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
    """The squared slopes of one batch at each layer's output by position, summed over images and channels."""
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
            powers[node.name] = _power(slope, layer.channel_axis)
    return powers


def _power(slope: Tensor, axis: int) -> Tensor:
    return slope.movedim(axis, -1).double().square().sum(-1).sum(0).flatten().cpu()
