"""Refuse networks that prunec cannot compress: not a module, without values, not finite, or random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ..errors import CaptureError, first_few
from ..ir.signature import unwrapped
from .diagnosis import place_of
from .weights_file import JIT, JIT_ADVICE

RANDOM = torch.Tag.nondeterministic_seeded
OFF = ("train", "training", "is_training")  # if False, the operator is deterministic
SHARES = ("p", "dropout_p", "dropout")  # if 0, the operator is deterministic


def plain_module(model: Any) -> nn.Module | ExportedProgram:
    """Return the network inside wrappers of torch.compile and data parallelism.

    Raises CaptureError for anything that is no network, for TorchScript, and for weights without values.
    """
    model = unwrapped(model)
    if isinstance(model, ExportedProgram):
        return model
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(f"{type(model).__name__} {JIT}: {JIT_ADVICE}")
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"of type {type(model).__name__}"
        raise CaptureError(
            f"the network is {kind}, not a torch.nn.Module or an exported program: give the network itself"
        )
    empty = [name for name, one in (*model.named_parameters(), *model.named_buffers()) if one.is_meta]
    if empty:
        raise CaptureError(f"{first_few(empty)} lie on the device meta, without values: load the weights first")
    return model


def require_finite(exported: ExportedProgram) -> None:
    """Raise CaptureError for NaN or infinity in weights that the graph reads. A buffer may hold infinity: masks do."""
    places = {spec.arg.name: spec.target for spec in exported.graph_signature.input_specs if spec.target is not None}
    read = {places.get(node.name) for node in exported.graph.nodes if node.op == "placeholder" and node.users}
    parameters, buffers = set(exported.graph_signature.parameters), set(exported.graph_signature.buffers)
    bad = [
        f"{name} ({_count(value, name in parameters)} of {value.numel()} values)"
        for name, value in exported.state_dict.items()
        if name in read and name in parameters | buffers and _count(value, name in parameters)
    ]
    if bad:
        raise CaptureError(
            f"the weights hold NaN or infinity, in {first_few(bad)}: every output would too; load whole weights"
        )


def _count(value: Tensor, infinite: bool) -> int:
    """Return the number of NaN, or with `infinite` of non-finite, values."""
    if not (value.is_floating_point() or value.is_complex()):
        return 0
    return int((~value.isfinite() if infinite else value.isnan()).sum())


def require_deterministic(module: fx.GraphModule) -> None:
    """Raise CaptureError for an operator that draws random numbers, if they are read."""
    for node in module.graph.nodes:
        if node.users and is_random(node):
            name = str(node.target).removeprefix("aten.").partition(".")[0]
            cure = "let it end with self.training" if "dropout" in name else "give them as an input, or use the mean"
            raise CaptureError(
                f"{place_of(node)} draws random numbers ({name}) in eval mode too, so the network gives another answer"
                f" each time and nothing can be fitted to it: {cure}"
            )


def is_random(node: fx.Node) -> bool:
    """Return whether an operator draws random numbers with its present arguments."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or RANDOM not in target.tags:
        return False
    names = [one.name for one in target._schema.arguments]
    given = {
        **{one.name: one.default_value for one in target._schema.arguments if one.has_default_value()},
        **dict(zip(names, node.args, strict=False)),
        **node.kwargs,
    }
    return not any(given.get(name) is False for name in OFF) and not any(given.get(name) == 0 for name in SHARES)


def require_same(name: str, first: Any, second: Any) -> None:
    """Raise CaptureError if two runs on the same inputs gave different answers."""
    pairs = zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=False)
    if not all(close(one, other) for one, other in pairs if isinstance(one, Tensor)):
        raise CaptureError(
            f"{name} gives another answer each time it is run on the same inputs, in eval mode too, so nothing can be"
            " fitted to it: turn off what draws random numbers (random, numpy, torch) in forward, or give it as input"
        )


def close(one: Tensor, other: Any) -> bool:
    """Return whether shapes are equal and values agree up to rounding; integers always agree."""
    if not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return True  # a class may change where scores are equal but for rounding
    size = float(one.abs().nan_to_num(0, 0, 0).amax()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-2, atol=1e-3 * size, equal_nan=True)
