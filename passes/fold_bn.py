"""Fold batch norm into the convolution or linear layer before it, exactly.

With stored mean m, variance v, scale g, shift b: W <- W · g / sqrt(v + eps), c <- (c - m) · g / sqrt(v + eps) + b, in
float64. A batch norm runs over axis 1 of its input, so it is kept if the layer's outputs lie along another axis: a
linear layer on [N, L, C], a convolution without a batch. It is also kept if its input has other readers, a weight is
shared, or one of its tensors is computed. `Norms` records b and |g|, the mean and deviation of the layer's outputs in
training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from prunec.channels.rules.contraction import argument
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.statistics.facts import Norm, Norms

aten = torch.ops.aten
NORMS = (aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)
LAYERS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.linear.default)
STORED = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class FoldBn(Pass):
    """Fold batch norms into the layers before them; the outputs are unchanged."""

    provides = (Norms,)
    rewrites = True
    exact = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network with batch norms folded, and add the `Norms` fact."""
        module = graph.rebuild(program.module, {})
        examples = graph.example_values(module, program.example_inputs)
        norms: dict[str, Norm] = {}
        for node in list(module.graph.nodes):
            if node.target in NORMS and _foldable(node) and _along_outputs(node, examples):
                norms |= _fold(module, node)
        return program.rewritten(graph.without_dead(module), Norms(norms))


def _foldable(norm: fx.Node) -> bool:
    layer: Any = norm.args[0]
    if layer.target not in LAYERS or len(layer.users) > 1 or argument(norm, "training", False):
        return False
    own = [argument(layer, "weight"), argument(layer, "bias")]
    stored = [argument(norm, name) for name in STORED]
    shared = graph.shared(layer.graph)
    return all(one is None or one.op == "get_attr" for one in (*own, *stored)) and not any(
        one is not None and str(one.target) in shared for one in own
    )


def _along_outputs(norm: fx.Node, examples: graph.Values) -> bool:
    """Return whether the axis of the norm, 1, is the axis of the layer's outputs."""
    layer: Any = norm.args[0]
    rank, weight = examples[layer].dim(), examples[argument(layer, "weight")].dim()
    return bool(rank == weight)  # a linear layer puts them last; a convolution without a batch, first


def _fold(module: fx.GraphModule, norm: fx.Node) -> dict[str, Norm]:
    """Fold one norm in place, and return it by the weight it is folded into. Empty if a number overflows."""
    layer: Any = norm.args[0]
    weight_node, bias_node = argument(layer, "weight"), argument(layer, "bias")
    weight = graph.attribute(module, weight_node.target)
    scale, shift = _affine(module, norm)
    gamma, beta = (_vector(module, norm, *entry).expand(len(weight)) for entry in (("weight", 1.0), ("bias", 0.0)))
    folded = graph.numbers(module, weight_node.target) * scale.reshape(-1, *[1] * (weight.dim() - 1))
    bias = shift if bias_node is None else graph.numbers(module, bias_node.target) * scale + shift
    folded, bias = folded.to(weight), bias.to(weight)
    if not (folded.isfinite().all() and bias.isfinite().all()):
        return {}
    graph.assign(module, str(weight_node.target), folded)
    graph.set_bias(module, layer, bias)
    outputs = [norm] if norm.target is NORMS[0] else [one for one in norm.users if one.args[1] == 0]
    for one in outputs:
        one.replace_all_uses_with(layer)
    return {str(weight_node.target): Norm(gamma.abs(), beta)}


def _affine(module: fx.GraphModule, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """Return scale and shift of the batch norm as an affine map, float64 [C]."""

    variance = _vector(module, norm, "running_var", 1.0)
    scale = _vector(module, norm, "weight", 1.0) / torch.sqrt(variance + float(argument(norm, "eps")))
    return scale, _vector(module, norm, "bias", 0.0) - _vector(module, norm, "running_mean", 0.0) * scale


def _vector(module: fx.GraphModule, norm: fx.Node, name: str, default: float) -> Tensor:
    """Return an argument of a batch norm, float64 [C], or [] without one."""
    node = argument(norm, name)
    if node is None:
        return torch.tensor(default, dtype=torch.float64)
    return graph.numbers(module, node.target)
