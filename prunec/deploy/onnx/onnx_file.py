"""Read and write ONNX files: explained errors, atomic writes, read back."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ...errors import BackendError, first_line
from ...files import artefacts
from . import provenance
from .model_inputs import fed, sizes_of

STANDARD = ("", "ai.onnx")
MAX_FILE = 2_000_000_000  # bytes; protobuf holds 2 GiB


def load(path: Path) -> onnx.ModelProto:
    """Load the model in `path` with its external weights.

    Raises BackendError if there is none, the file is truncated or not ONNX, or an operator is not ONNX's own.
    """
    if not path.is_file():
        raise BackendError(f"there is no model file '{path}'")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise BackendError(
            f"'{path}' is not a whole ONNX model; write or fetch it again ({first_line(error)})"
        ) from error
    foreign = [node for node in model.graph.node if node.domain not in STANDARD]
    if foreign:
        node = foreign[0]
        raise BackendError(
            f"'{path}' has the operator {node.domain}.{node.op_type} (node '{node.name}'), which is not ONNX's own:"
            " export the network without it"
        )
    return model


def input_shape(model: onnx.ModelProto) -> tuple[int, ...] | None:
    """Return the shape of the first input without its batch; None unless all fixed."""
    sizes = next(map(sizes_of, fed(model).values()), ())[1:]
    return tuple(map(int, sizes)) if sizes and all(sizes) else None  # type: ignore[arg-type]


def only_batch(model: onnx.ModelProto) -> int | None:
    """Return the only batch size that the model takes; None if any."""
    return next((sizes[0] for sizes in map(sizes_of, fed(model).values()) if sizes and sizes[0]), None)


def require_free(path: Path, force: bool = False) -> None:
    """Raise DataError, before any work, if `save` could not write to `path`."""
    artefacts.require_file(path, force)


def save(model: onnx.ModelProto, path: Path) -> int:
    """Write `model` atomically and reproducibly; return the number of bytes.

    Raises BackendError if it exceeds 2 GB or does not read back, DataError if the disk refuses.
    """
    if model.ByteSize() > MAX_FILE:
        raise BackendError(f"the model takes {model.ByteSize() / 1e9:.1f} GB, and one ONNX file holds 2: prune further")
    data = model.SerializeToString(deterministic=True)
    artefacts.write_bytes(path, data)
    if provenance.read(onnx.load(path)) != provenance.read(model):
        raise BackendError(f"{path} does not read back as it was written: write it to another disk")
    return len(data)
