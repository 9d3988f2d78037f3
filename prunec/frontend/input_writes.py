"""Find networks that write into their inputs, and export them with copies."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from ..errors import CaptureError
from ..ir.calling import filled, tensors_of


def copies(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return copies of the arguments, for a network that writes into its inputs."""
    args, kwargs = filled((args, kwargs), [one.clone() for one in tensors_of((args, kwargs))])
    return args, kwargs


def writes(node: fx.Node) -> bool:
    """Return whether an operator writes into its arguments."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def writes_inputs(exported: ExportedProgram) -> bool:
    """Return whether an operator writes into an input of the program or its view."""
    inputs = set(exported.graph_signature.user_inputs)
    for node in filter(writes, exported.graph.nodes):
        source = node.args[0]
        while isinstance(source, fx.Node) and _is_view(source):
            source = source.args[0]
        if isinstance(source, fx.Node) and source.name in inputs:
            return True
    return False


def _is_view(node: fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and any(one.alias_info for one in target._schema.returns)


def require_no_writes(exported: ExportedProgram) -> None:
    """Raise CaptureError for a functional program that returns changed inputs to its caller."""
    if exported.graph_signature.user_inputs_to_mutate:
        raise CaptureError(
            "the network writes into its inputs: write y = x * 2 for x.mul_(2), and nn.ReLU() for"
            " nn.ReLU(inplace=True), or let it begin with x = x.clone()"
        )
