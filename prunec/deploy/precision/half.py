"""Cast FP32 to FP16 or BF16, node by node.

ONNX's schemas say which inputs and outputs of an operator may have the type: those whose type variable allows it.
Others are kept in FP32. BF16 convolutions and pools came with opset 22; an older model is converted first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, defs, helper, numpy_helper, version_converter

from ...errors import BackendError, first_line
from ..onnx.element_types import FLOAT, element_types, inferred, operator_set

OPSET = 22


def convert(model: onnx.ModelProto, kept: Collection[str], to: int) -> onnx.ModelProto:
    """Cast every node that allows it to type `to`; keep the interface and `kept`."""
    return inferred(_Lowering(inferred(model), frozenset(kept), to).model())


def at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` in opset `OPSET` or newer. Raises BackendError if ONNX cannot convert it."""
    found = operator_set(model)
    if found >= OPSET:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        raise BackendError(
            f"the model is of opset {found}, BF16 needs {OPSET}, and ONNX cannot convert it: export it with"
            f" --opset bf16 ({first_line(error)})"
        ) from error
    return converted


def without(model: onnx.ModelProto, to: int) -> dict[str, str]:
    """Return the reason, by name, for nodes that ONNX does not define in type `to`."""
    types, opset = element_types(inferred(model)), operator_set(model)
    return {
        node.name: f"ONNX has no {node.op_type} of that type in opset {opset}"
        for node in model.graph.node
        if any(types.get(name) == FLOAT for name in node.output)
        and not _lowered(node.op_type, opset, to)[1].intersection(range(len(node.output)))
        and node.op_type != "Cast"
    }


class _Lowering:
    """One walk over the nodes; `types` tracks the type of each value."""

    def __init__(self, source: onnx.ModelProto, kept: frozenset[str], to: int) -> None:
        self.source, self.kept, self.to = source, kept, to
        self.opset = operator_set(source)
        self.before = element_types(source)
        self.types = dict(self.before)
        self.constants = {tensor.name: tensor for tensor in source.graph.initializer}
        self.added: dict[str, TensorProto] = {}
        self.cast: set[str] = set()

    def model(self) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(self.source)
        del result.graph.node[:], result.graph.value_info[:], result.graph.initializer[:]
        outputs = {entry.name for entry in self.source.graph.output}
        for node in self.source.graph.node:
            result.graph.node.extend(self._node(node, outputs))
        read = {name for node in result.graph.node for name in node.input} | outputs
        stored = (*self.source.graph.initializer, *self.added.values())
        result.graph.initializer.extend(tensor for tensor in stored if tensor.name in read)
        return result

    def _node(self, node: NodeProto, outputs: set[str]) -> Iterator[NodeProto]:
        """Yield the casts before `node`, itself, and casts of graph outputs to FP32."""
        low_in, low_out = _lowered(node.op_type, self.opset, self.to)
        if node.name in self.kept or node.op_type == "Cast":
            low_in, low_out = frozenset(), frozenset()
        copied = NodeProto()
        copied.CopyFrom(node)
        for position, name in enumerate(node.input):
            if self.before.get(name) != FLOAT:
                continue
            wanted = self.to if position in low_in else FLOAT
            copied.input[position] = self._as(name, wanted)
            yield from self._pending(name, wanted)
        lowered = [
            name for place, name in enumerate(node.output) if place in low_out and self.before.get(name) == FLOAT
        ]
        for name in lowered:
            self.types[name] = self.to
        copied.output[:] = [f"{name}.low" if name in lowered and name in outputs else name for name in node.output]
        yield copied
        for name in lowered:
            if name in outputs:
                self.types[name] = FLOAT
                yield helper.make_node("Cast", [f"{name}.low"], [name], f"{name}.to_fp32", to=FLOAT)

    def _as(self, name: str, wanted: int) -> str:
        """Return the name of value `name` in type `wanted`."""
        return name if self.types[name] == wanted else f"{name}.fp32" if wanted == FLOAT else f"{name}.half"

    def _pending(self, name: str, wanted: int) -> Iterator[NodeProto]:
        """Yield the Cast of `name` to `wanted` on first use; convert a constant instead."""
        target = self._as(name, wanted)
        if target == name or target in self.cast:
            return
        self.cast.add(target)
        if name in self.constants:
            self.added[target] = _converted(self.constants[name], target, wanted)
            return
        yield helper.make_node("Cast", [name], [target], f"{name}.cast", to=wanted)


@cache
def _lowered(op: str, opset: int, to: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the positions of inputs and outputs that may be of type `to`."""
    schema = defs.get_schema(op, opset, "")
    name = f"tensor({TensorProto.DataType.Name(to).lower()})"
    free = {
        constraint.type_param_str
        for constraint in schema.type_constraints
        if {name, "tensor(float)"} <= set(constraint.allowed_type_strs)
    }
    return _positions(schema.inputs, free), _positions(schema.outputs, free)


def _positions(formals: object, free: set[str]) -> frozenset[int]:
    """Return the positions of `formals` of a type in `free`; the last may repeat."""
    listed = list(formals)  # type: ignore[call-overload]
    found = {place for place, formal in enumerate(listed) if formal.type_str in free}
    variadic = bool(listed) and listed[-1].option == defs.OpSchema.FormalParameterOption.Variadic
    return frozenset(found | set(range(len(listed), 1000)) if variadic and len(listed) - 1 in found else found)


def _converted(tensor: TensorProto, name: str, to: int) -> TensorProto:
    """Round a constant to type `to`, to nearest even."""
    values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(to))
    return numpy_helper.from_array(np.ascontiguousarray(values), name)
