"""Map the nested inputs and outputs of a network to flat tensors, and back.

`Program.module` takes tensors alone, one after the other. `Calling` records the tuples, dicts, keywords and constants
of the original, so that the compressed network is called as the original was. Source: `torch.utils._pytree`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from ..errors import CaptureError

Inputs: TypeAlias = tuple[Any, ...] | Mapping[str, Any]  # positional arguments, or keywords


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return example inputs as `args, kwargs`: a mapping holds keywords, anything else is positional."""
    return ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})


def tensors_of(value: Any) -> tuple[Tensor, ...]:
    """Return the tensors inside a nested value, in order."""
    return tuple(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def samples_of(value: Tensor, count: int) -> Tensor:
    """Take `count` samples of a batch, repeating it as needed. Raises CaptureError where there is no batch."""
    if value.dim() == 0 or not value.shape[0]:
        raise CaptureError(f"an example input of shape {tuple(value.shape)} has no batch in front; give [N, …], N ≥ 1")
    return value.detach()[torch.arange(count, device=value.device) % len(value)]


def filled(value: Any, tensors: Iterable[Tensor]) -> Any:
    """Return a copy of a nested value with other tensors."""
    given = iter(tensors)
    return pytree.tree_map(lambda leaf: next(given) if isinstance(leaf, Tensor) else leaf, value)


def register_dataclasses(value: Any) -> None:
    """Register the dataclasses inside a value with torch, as `torch.export.register_dataclass` does.

    One with a field that its constructor does not take is left out: torch could not rebuild it.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            register_dataclasses(one)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    fields, kind = dataclasses.fields(value), type(value)
    for field in fields:
        register_dataclasses(getattr(value, field.name))
    unknown = pytree.tree_structure(value).is_leaf()
    if unknown and all(field.init for field in fields):
        torch.export.register_dataclass(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")


@dataclass(frozen=True)
class Calling:
    """Arguments of the original: their names, nesting, and which leaves are tensors."""

    names: tuple[str, ...]
    spec: pytree.TreeSpec  # of (args, kwargs)
    leaves: tuple[bool, ...]

    @property
    def flat(self) -> bool:
        """Return whether the original takes tensors alone, one after the other."""
        return all(self.leaves) and self.spec == _flat_spec(len(self.leaves))

    def restored(self, module: fx.GraphModule, plain: bool = False) -> fx.GraphModule:
        """Return `module` with the signature of the original; weights are shared.

        With `plain` every class in the interface becomes a tuple or a dict, and a text argument None, so that any torch
        can read its file.
        """
        graph = fx.Graph()
        old = [node for node in module.graph.nodes if node.op == "placeholder"]
        given, copies = iter(old), {}
        for number, is_tensor in enumerate(self.leaves):
            source = next(given) if is_tensor else None
            node = graph.placeholder(f"constant_{number}" if source is None else str(source.target))
            copies[source] = node
        for node in module.graph.nodes:
            if node.op != "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        if plain:
            output = next(node for node in graph.nodes if node.op == "output")
            output.args = map_aggregate(output.args, lambda leaf: None if isinstance(leaf, str) else leaf)
        info = module.graph._codegen.pytree_info  # type: ignore[attr-defined]
        inside, outside = (_plain(one) if plain else one for one in (self.spec, info.out_spec))
        graph._codegen = _PyTreeCodeGen(_PyTreeInfo(list(self.names), inside, outside))
        return fx.GraphModule(module, graph)

    def arguments(self, tensors: Iterable[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return `args, kwargs` of plain containers with these tensors; unread constants are None."""
        given = iter(tensors)
        leaves = [next(given) if is_tensor else None for is_tensor in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, _plain(self.spec))
        return tuple(args), dict(kwargs)


def calling_of(exported: ExportedProgram, module: fx.GraphModule) -> Calling:
    """Return how `exported` is called; `module` is its unlifted graph."""
    specs = [one for one in exported.graph_signature.input_specs if one.kind is InputKind.USER_INPUT]
    info = module.graph._codegen.pytree_info  # type: ignore[attr-defined]
    return Calling(tuple(info.orig_args), info.in_spec, tuple(isinstance(one.arg, TensorArgument) for one in specs))


def flatten(module: fx.GraphModule, calling: Calling) -> None:
    """Make `module` take tensors one after the other, in place; outputs stay nested."""
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, is_tensor in zip(places, calling.leaves, strict=True):
        if not is_tensor:
            module.graph.erase_node(node)
    names = [str(node.target) for node, is_tensor in zip(places, calling.leaves, strict=True) if is_tensor]
    info = module.graph._codegen.pytree_info  # type: ignore[attr-defined]
    module.graph._codegen = _PyTreeCodeGen(_PyTreeInfo(names, _flat_spec(len(names)), info.out_spec))
    module.recompile()


def tensors_only(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """Return `module` with its output tensors alone, in a tuple; itself where they are already."""
    given = pytree.tree_leaves(module(*inputs))
    if all(isinstance(leaf, Tensor) for leaf in given):
        return module
    graph = fx.Graph()
    found = pytree.tree_leaves(graph.graph_copy(module.graph, {}))
    kept = tuple(node for node, leaf in zip(found, given, strict=True) if isinstance(leaf, Tensor))
    graph.output(kept)
    info = getattr(module.graph._codegen, "pytree_info", None)
    if info is not None:
        spec = pytree.tree_structure(tuple(range(len(kept))))
        graph._codegen = _PyTreeCodeGen(_PyTreeInfo(info.orig_args, info.in_spec, spec))
    return fx.GraphModule(module, graph)


def _flat_spec(count: int) -> pytree.TreeSpec:
    return pytree.tree_structure((tuple(range(count)), {}))


def _plain(spec: pytree.TreeSpec) -> pytree.TreeSpec:
    """Return the nesting with dicts for named fields, and a tuple for a NamedTuple."""
    return pytree.tree_structure(_undressed(pytree.tree_unflatten(range(spec.num_leaves), spec)))


def _undressed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _undressed(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value):  # a field that is None is no leaf
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _undressed(one) for name, one in fields.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_undressed(one) for one in value] if isinstance(value, list) else tuple(map(_undressed, value))
    return value
