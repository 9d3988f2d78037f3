"""Run the user's own network for comparison, unchanged and with its own signature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument
from torch.utils import _pytree as pytree

from ..device import CPU, device_of, full_float32
from . import graph
from .calling import filled, samples_of, tensors_of
from .module_state import preserved


@dataclass(frozen=True, eq=False)
class Original:
    """A user's network and its arguments; each call replaces the tensors among them."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    alone: bool = True  # whether a batch of one keeps the output shapes

    @staticmethod
    def of_exported(exported: ExportedProgram, tensors: Iterable[Tensor]) -> Original:
        """Return the module of an exported program, without guards on the example's sizes."""
        module: Any = exported.module()
        module._forward_pre_hooks.clear()
        for name in ("train", "eval"):  # they raise, and do not affect the operators
            vars(module).pop(name, None)
        assert isinstance(module, fx.GraphModule)
        given = iter(tensors)
        specs = [one for one in exported.graph_signature.input_specs if one.kind is InputKind.USER_INPUT]
        leaves = [
            next(given) if isinstance(one.arg, TensorArgument) else getattr(one.arg, "value", None) for one in specs
        ]
        args, kwargs = pytree.tree_unflatten(leaves, exported.call_spec.in_spec)
        return Original(graph.strip(module), tuple(args), dict(kwargs))

    @torch.no_grad()
    def outputs(self, inputs: Iterable[Tensor]) -> list[Tensor]:
        """Run the network on tensors in place of the example's; return outputs on their device.

        A sample that the network treats differently on its own is doubled, and only its own outputs are returned.
        """
        inputs = tuple(inputs)
        if not self.alone and len(inputs[0]) == 1:
            found = self.outputs(samples_of(one, 2) for one in inputs)
            return [one[:1] if one.dim() and len(one) == 2 else one for one in found]
        place = device_of(self.model) or CPU
        args, kwargs = filled((self.args, self.kwargs), (one.to(place).clone() for one in inputs))
        with preserved(self.model), full_float32():
            found = self.model(*args, **kwargs)
            return [one.detach().to(inputs[0].device, copy=True) for one in tensors_of(found)]
