"""Give an exported model the interface of the ONNX file that it replaces.

Names, order, types, dynamic axes, metadata and the name of the graph are those of the file. The operator set is the
file's, or the nearest that PyTorch writes. Half-precision inputs and outputs are converted at the border.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto, ValueInfoProto
from torch import Tensor

from ...errors import BackendError
from ...frontend.onnx_import.network import OnnxNetwork
from ...frontend.onnx_import.prepare import operator_set
from ...frontend.onnx_import.tail import joined, reads
from ..ort.imported import Imported, compared
from ..ort.parity import Parity
from .export import OPSETS


@dataclass(frozen=True, eq=False)
class DropIn:
    """The interface of an ONNX file, to be given to what replaces it."""

    file: onnx.ModelProto
    inputs: tuple[ValueInfoProto, ...]
    batch: int | None
    """The batch that the file fixes; None for any."""
    whole: onnx.ModelProto | None
    """The model with the tail that was cut off; None without."""
    allowed: Imported
    """Comparison of the import with ONNX Runtime, whose tolerance holds for the result too."""

    @staticmethod
    def of(network: OnnxNetwork, inputs: tuple[Tensor, ...]) -> DropIn:
        """Return the interface of an imported network, compared on `inputs`.

        Raises as `prunec.deploy.ort.imported.compared`.
        """
        return DropIn(network.file, network.inputs, network.batch, network.whole, compared(network, inputs))

    def opset(self, wanted: int) -> int:
        """Return the operator set to write: the file's or a later one that is asked for, within `OPSETS`."""
        given = operator_set(self.file)
        if self.whole is not None and given not in OPSETS:
            raise BackendError(
                f"the file keeps a tail in operator set {given}, and PyTorch writes {OPSETS[0]} to {OPSETS[-1]}:"
                f" convert the file to {OPSETS[-1]}"
            )
        return given if self.whole is not None else min(max(given, wanted, OPSETS[0]), OPSETS[-1])

    def rounded(self, parity: Parity) -> Parity:
        """Return the comparison of a result with the tolerance of the import."""
        return replace(parity, tolerance=self.allowed.tolerance, top1=self.allowed.top1)

    def with_tail(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a model that replaces the file, with its tail joined."""
        if self.whole is None:
            return model
        kept = {one.name for one in (*model.graph.input, *model.graph.output)}
        theirs = {name for node in self.whole.graph.node for name in (*reads(node), *node.output)} - kept
        inner = onnx.ModelProto()
        inner.CopyFrom(model)
        rename(inner, {name: f"head/{name}" for name in _names(inner) & theirs})
        found = joined(inner, self.whole)
        onnx.checker.check_model(found)
        return found

    def given_to(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a copy of an exported model with the interface of the file."""
        made = onnx.ModelProto()
        made.CopyFrom(model)
        wanted = (*self.inputs, *self.file.graph.output)
        entries = (*made.graph.input, *made.graph.output)
        rename(made, dict(zip((one.name for one in entries), (one.name for one in wanted), strict=True)))
        for entry, like in zip(entries, wanted, strict=True):
            _shape_as(entry, like)
        _convert_border(made, wanted)
        made.graph.name, made.graph.doc_string = self.file.graph.name, self.file.graph.doc_string
        made.domain, made.model_version, made.doc_string = (
            self.file.domain,
            self.file.model_version,
            self.file.doc_string,
        )
        taken = {one.key for one in made.metadata_props}
        made.metadata_props.extend(one for one in self.file.metadata_props if one.key not in taken)
        del made.graph.value_info[:]
        onnx.checker.check_model(made)
        return made


def _names(model: onnx.ModelProto) -> set[str]:
    """Return the names of all tensors of a graph."""
    found = {name for node in model.graph.node for name in (*node.input, *node.output)}
    return found | {one.name for one in model.graph.initializer}


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Rename tensors by `names`, old to new; inner tensors give way."""
    graph = model.graph
    present = _names(model)
    for name in sorted(set(names.values()) & present - set(names)):
        free = f"{name}_inner"
        while free in present or free in names.values():
            free += "_"
        names = {**names, name: free}
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for entry in (*graph.initializer, *graph.input, *graph.output):
        entry.name = names.get(entry.name, entry.name)


def _shape_as(entry: ValueInfoProto, like: ValueInfoProto) -> None:
    """Give the sizes of `like` to an entry: its batch, and where it fixes a size."""
    ours, theirs = entry.type.tensor_type.shape.dim, like.type.tensor_type.shape.dim
    if len(ours) != len(theirs):
        return
    for axis, (own, given) in enumerate(zip(ours, theirs, strict=True)):
        if given.HasField("dim_value") or (given.HasField("dim_param") and (axis == 0 or own.HasField("dim_param"))):
            own.CopyFrom(given)


def _convert_border(model: onnx.ModelProto, wanted: Iterable[ValueInfoProto]) -> None:
    """Insert a Cast where the file's type of an input or output is another."""
    graph, kinds = model.graph, {one.name: one.type.tensor_type.elem_type for one in wanted}
    first, last = [], []
    for entry in graph.input:
        if (kind := entry.type.tensor_type).elem_type != kinds[entry.name]:
            _read_as(graph, entry.name, f"{entry.name}_converted")
            first.append(_cast(entry.name, f"{entry.name}_converted", kind.elem_type))
            kind.elem_type = kinds[entry.name]
    for entry in graph.output:
        if (kind := entry.type.tensor_type).elem_type != kinds[entry.name]:
            _read_as(graph, entry.name, f"{entry.name}_computed")
            last.append(_cast(f"{entry.name}_computed", entry.name, kinds[entry.name]))
            kind.elem_type = kinds[entry.name]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)


def _read_as(graph: onnx.GraphProto, name: str, other: str) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [other if one == name else one for one in field]


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    assert kind != TensorProto.UNDEFINED
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)
