"""Compare an imported ONNX network with ONNX Runtime, and find the operator where they part.

    allowed = max(1e-4, 10·max|float32 − float64|), at most 1e-2

The second term is the network's own rounding, which large inputs and many layers raise; it is measured where the first
does not suffice. Half precision is allowed 2e-2.

ONNX Runtime runs the file as given, in the batch that it fixes; the import runs all samples at once. Where they differ,
both run again with every intermediate value as an output, in the order of the nodes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from ...errors import NumericsError
from ...frontend.onnx_import.network import OnnxNetwork
from ...frontend.onnx_import.node import Node
from ...ir.calling import tensors_of
from .parity import TOLERANCE, Agreement, agreement, arrays
from .runtime import Array, run, session

HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
TIMES, MOST = 10, 1e-2  # of the rounding of the network itself that is allowed, and its bound
HALF_TOLERANCE = 2e-2  # of a file in half precision, which the import computes in float32


@dataclass(frozen=True)
class Imported:
    """Agreement of an imported network with ONNX Runtime, and what was allowed."""

    agreement: Agreement
    tolerance: float
    top1: float  # least share of samples with the same class

    @property
    def ok(self) -> bool:
        """Return whether the import is within the tolerance."""
        return self.agreement.within(self.tolerance, self.top1)


def require_same(network: Any, inputs: tuple[Tensor, ...]) -> Imported | None:
    """Call `compared` on an `OnnxNetwork`; return None for any other network."""
    return compared(network, inputs) if isinstance(network, OnnxNetwork) else None


def compared(network: OnnxNetwork, inputs: tuple[Tensor, ...]) -> Imported:
    """Compare an imported network with ONNX Runtime on samples.

    Raises NumericsError with the first operator whose output differs, BackendError without an ONNX Runtime, DataError
    for inputs that the file does not take.
    """
    half = _is_half(network.file)
    limit = HALF_TOLERANCE if half else TOLERANCE
    inputs = _whole_batches(inputs, network.batch)
    expected, actual = _outputs(network.file, inputs, network.batch), _imported(network, inputs)
    found = Imported(agreement(len(inputs[0]), expected, actual, limit), limit, 0.0 if half else 1.0)
    if not found.ok:
        limit = min(max(limit, TIMES * _rounding(network, inputs, actual)), MOST)
        found = Imported(agreement(len(inputs[0]), expected, actual, limit), limit, found.top1)
    if found.ok:
        return found
    raise NumericsError(
        f"{network.where}, imported, differs from ONNX Runtime ({found.agreement}; allowed is {limit:.1g}):"
        f" {_begins(network, inputs)}; a fault of the import: report it, and compress the PyTorch network meanwhile"
    )


def _rounding(network: OnnxNetwork, inputs: tuple[Tensor, ...], actual: list[Array]) -> float:
    """Return the largest difference of the outputs from those in float64."""
    exact = _imported(
        copy.deepcopy(network).double(), tuple(one.double() if one.is_floating_point() else one for one in inputs)
    )
    return max(float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) for a, b in zip(actual, exact, strict=True))


def _is_half(model: onnx.ModelProto) -> bool:
    return any(one.data_type in HALVES for one in model.graph.initializer)


def _whole_batches(inputs: tuple[Tensor, ...], batch: int | None) -> tuple[Tensor, ...]:
    """Return samples that fill whole batches, at least one."""
    if batch is None:
        return inputs
    count = max(len(inputs[0]) // batch, 1) * batch
    return tuple(torch.cat([one] * -(-count // len(one)))[:count] for one in inputs)


@torch.no_grad()
def _imported(network: OnnxNetwork, inputs: tuple[Tensor, ...]) -> list[Array]:
    if network.free_batch or network.batch is None:
        return arrays(tensors_of(network.run(inputs)))
    found = [arrays(tensors_of(network.run(part))) for part in _parts(inputs, network.batch)]
    return _joined(found)


def _outputs(model: onnx.ModelProto, inputs: tuple[Tensor, ...], batch: int | None) -> list[Array]:
    opened = session(model)
    return _joined([run(opened, part) for part in _parts(inputs, batch or len(inputs[0]))])


def _parts(inputs: tuple[Tensor, ...], batch: int) -> list[tuple[Tensor, ...]]:
    return [tuple(one[at : at + batch] for one in inputs) for at in range(0, len(inputs[0]), batch)]


def _joined(parts: list[list[Array]]) -> list[Array]:
    """Concatenate the outputs of several batches."""
    if len(parts) == 1:
        return parts[0]
    return [np.concatenate(each) if each[0].ndim else each[0] for each in zip(*parts, strict=True)]


def _begins(network: OnnxNetwork, inputs: tuple[Tensor, ...]) -> str:
    """Return text on the first operator whose output differs."""
    inputs = next(iter(_parts(inputs, network.batch or len(inputs[0]))))
    seen: list[tuple[Node, str, Array]] = []

    def remember(node: Node, found: tuple[Any, ...]) -> None:
        pairs = zip(node.outputs, found, strict=False)
        seen.extend((node, name, value.numpy()) for name, value in pairs if name and isinstance(value, Tensor))

    with torch.no_grad():
        network.run(inputs, remember)
    model = onnx.ModelProto()
    model.CopyFrom(network.prepared.model)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for _, name, _ in seen)
    expected = run(session(model), inputs)
    for (node, _, ours), theirs in zip(seen, expected, strict=True):
        if not _near(ours, theirs):
            return f"the difference begins at the ONNX operator {node}"
    return "no single operator differs, so it lies in the conversion to a newer operator set or in constant folding"


def _near(ours: Array, theirs: Array) -> bool:
    if ours.shape != theirs.shape:
        return False
    scale = max(1.0, float(np.abs(np.nan_to_num(theirs.astype(np.float64))).max(initial=0.0)))
    return bool(np.allclose(ours, theirs, rtol=0, atol=TOLERANCE * scale, equal_nan=True))
