"""Compute label-free activation times gradient of each coordinate, at the layers that read it.

    contribution_j = sum over readers, positions and channels of j of  a · dL/da

the first-order change of the loss L if every reader reads zero for the coordinate (Molchanov et al., ICLR 2017). The
gradient is that of the path through the reader alone, without a shortcut around it.

L is the surprise of the network at answers drawn from itself: classes from its softmax for outputs [N, classes],
otherwise values from a normal distribution of variance one around the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from ..channels.matrix import readers_of
from ..channels.spaces import Channels, Contraction
from ..errors import PassError
from ..ir import graph
from ..ir.interpreter import Interpreter, Live
from ..ir.program import Program
from ..pipeline.context import Context
from ..statistics.memo import once
from ..statistics.relative import by_sample

IMAGES = 128
Edit = Callable[[Contraction, Tensor], Tensor]


def reading_layers(channels: Channels) -> dict[str, Contraction]:
    """Return every layer that reads a prunable space, by node."""
    return {one.node: one for space in channels.prunable for one in readers_of(channels, space)}


def through(program: Program, inputs: tuple[Tensor, ...], edit: Edit) -> list[Tensor]:
    """Return the outputs with readers of prunable spaces reading `edit(layer, input)`.

    The input of `edit` is [..., C], channels last.
    """
    wanted = once(program, "reading layers", lambda: reading_layers(program.fact(Channels)))

    def edited(node: fx.Node, values: Live) -> Any:
        one, source = wanted[node.name], node.all_input_nodes[0]
        rank, x = graph.attribute(program.module, one.weight).dim(), values[source]
        axis = -1 if rank == 2 else x.dim() - rank + 1  # of a linear layer the last, else that before the space
        changed = edit(one, x.movedim(axis, -1)).movedim(-1, axis)
        return graph.run_node(program.module, node, Live(program.module, {**values, source: changed}))

    return Interpreter(program.module, dict.fromkeys(wanted, edited))(inputs)


def contributions(program: Program, context: Context) -> Tensor:
    """Return activation times gradient of all prunable coordinates, float64 [samples, coordinates].

    Samples run one at a time, as a graph may fold samples into any axis; a network with a fixed batch runs that batch,
    with a loss for each sample.
    """
    images = context.images()
    return once(program, ("contributions", images, context.seed), lambda: _contributions(program, context))


def _contributions(program: Program, context: Context) -> Tensor:
    generator = torch.Generator().manual_seed(context.seed)
    images, size = context.images().take(IMAGES, context.seed), program.only_batch or 1
    batches = range(-(-len(images) // size))
    rows: list[Tensor] = []
    for _, batch in zip(context.track(batches, "gradients"), images.batches(size), strict=True):
        rows += _of_batch(program, batch, generator)
    return torch.stack(rows)


def _of_batch(program: Program, batch: tuple[Tensor, ...], generator: torch.Generator) -> list[Tensor]:
    read: list[tuple[Contraction, Tensor]] = []

    def record(one: Contraction, x: Tensor) -> Tensor:
        own = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        read.append((one, own))
        return own

    with torch.enable_grad():
        losses = surprise(through(program, batch, record), len(batch[0]), generator)
    rows = []
    for place in range(len(losses)):
        row = torch.zeros(program.fact(Channels).count + 1, dtype=torch.float64)
        inputs = [x for _, x in read]
        last = place + 1 == len(losses)
        try:
            slopes = torch.autograd.grad(losses[place], inputs, retain_graph=not last, materialize_grads=True)
        except RuntimeError as error:
            advice = "use a criterion that needs no gradient, flap for instance"
            raise PassError(f"the network cannot be differentiated ({error}): {advice}") from error
        for (one, x), slope in zip(read, slopes, strict=True):
            each = (x.detach() * slope).flatten(0, -2).double().sum(0).cpu()
            row.index_add_(0, one.inputs.remainder(len(row)), each)
        rows.append(row[:-1])
    return rows


def surprise(found: list[Tensor], samples: int, generator: torch.Generator) -> Tensor:
    """Return a loss by sample with the slope of -log p(drawn answer), [samples].

    Answers are drawn from the outputs sample by sample, so they do not depend on the batch size.
    """
    outputs = [_rows(output, samples) for output in found]
    losses = [found[0].new_zeros(()) for _ in range(samples)]
    for place in range(samples):
        for rows in outputs:
            if place < len(rows):
                losses[place] = losses[place] + _of_answer(rows[place], generator)
    return torch.stack(losses)


def _rows(output: Tensor, samples: int) -> Tensor:
    """Return logits as [samples, rows, classes], values as [samples, entries]."""
    if output.dim() == 2 and output.shape[1] > 1:
        return output.reshape(samples if len(output) % samples == 0 else 1, -1, output.shape[1])
    return by_sample(output, samples)


def _of_answer(row: Tensor, generator: torch.Generator) -> Tensor:
    """Return the loss of one sample at a drawn answer. `row` holds logits [rows, classes] or values [entries]."""
    if row.dim() == 2:
        drawn = torch.multinomial(row.detach().double().softmax(1).cpu(), 1, generator=generator)[:, 0]
        return functional.cross_entropy(row, drawn.to(row.device), reduction="sum")
    return -(row * torch.randn(row.shape, generator=generator, dtype=row.dtype).to(row.device)).sum()
