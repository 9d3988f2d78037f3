"""Read the inputs of an ONNX model: names, types and ranges of integers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError

from ...errors import BackendError
from ...ir.signature import Signature

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TYPES = {"float": "float32", "double": "float64"}  # of ONNX Runtime; others are called as in numpy
MOVES = ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "DequantizeLinear")


def fed(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Return the types of the inputs that have no stored value, by name."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {entry.name: entry.type.tensor_type for entry in model.graph.input if entry.name not in constants}


def sizes_of(kind: onnx.TypeProto.Tensor) -> tuple[int | None, ...]:
    """Return the sizes of a type; None for a dimension that is not fixed."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)


def of_model(model: onnx.ModelProto) -> Signature:
    """Return the inputs of a loaded model."""
    kinds = {name: onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) for name, kind in fed(model).items()}
    return _signature(kinds, [np.dtype(kind).name for kind in kinds.values()])


def of_session(session: InferenceSession) -> Signature:
    """Return the inputs of an ONNX Runtime session."""
    entries = session.get_inputs()
    return _signature([entry.name for entry in entries], [numpy_type(entry.type) for entry in entries])


def numpy_type(kind: str) -> str:
    """Convert ONNX Runtime's `tensor(float)` to `float32`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return TYPES.get(name, name)


def of_file(path: Path) -> Signature:
    """Return the inputs of a model file, without its external weights. Raises BackendError as `load`."""
    try:
        return of_model(onnx.load(path, load_external_data=False))
    except (DecodeError, OSError, ValueError) as error:
        raise BackendError(f"'{path}' is not a whole ONNX model ({type(error).__name__}): check the path") from error


def rows_of_tables(model: onnx.ModelProto) -> dict[str, int]:
    """Return, by input, the rows of the smallest table that it indexes (embeddings)."""
    rows = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    source = {name: name for name in fed(model)}
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in MOVES and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        if node.op_type in MOVES and node.input[0] in rows:
            rows[node.output[0]] = rows[node.input[0]]
        if node.op_type == "Gather" and node.input[1] in source and node.input[0] in rows:
            axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
            name, size = source[node.input[1]], int(rows[node.input[0]][axis])
            found[name] = min(size, found.get(name, size))
    return found


def _signature(names: Iterable[str], kinds: Iterable[str]) -> Signature:
    given = tuple(names)
    types = tuple(found if isinstance(found := getattr(torch, kind, None), torch.dtype) else None for kind in kinds)
    floating = next((one for one in types if one is not None and one.is_floating_point), torch.float32)
    return Signature("the model", given, (), types, floating, positional=given)
