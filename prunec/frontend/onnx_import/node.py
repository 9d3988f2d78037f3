"""Define one ONNX node, and the table of operators: each file of `operators/` registers one family.

An operator is a function of a `Node` and its inputs: tensors, or numbers of Python. Shapes are such numbers (int, or
list of int), so torch.export sees sizes and no tensors of sizes; so are the inputs that an operator lists as `numbers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import CaptureError

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
NUMBERS: dict[str, tuple[int, ...]] = {}  # places of inputs that are read as numbers, by operator
WIDEST_NUMBERS = 64  # entries of a constant that is read as numbers where its operator does not ask for them


@dataclass(frozen=True)
class Node:
    """One ONNX node, with its attributes as values of Python and numpy."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, otherwise: Any = None) -> Any:
        """Return an attribute, or `otherwise`."""
        return self.attributes.get(name, otherwise)

    def refuse(self, why: str) -> CaptureError:
        """Return the error for a form of this operator that is not imported."""
        return CaptureError(f"the ONNX operator {self}, cannot be imported: {why}")

    def __str__(self) -> str:
        return f"{self.kind} of node '{self.name or self.outputs[0]}'"


def operator(*kinds: str, numbers: Sequence[int] = ()) -> Callable[[Operator], Operator]:
    """Register a function for operators; inputs at the places `numbers` are given as numbers."""

    def register(function: Operator) -> Operator:
        for kind in kinds:
            OPERATORS[kind] = function
            NUMBERS[kind] = tuple(numbers)
        return function

    return register


def is_number(value: Any) -> bool:
    """Return whether a value is a number or a list of numbers."""
    return value is not None and not isinstance(value, Tensor)


def tensor_of(value: Any, like: Tensor | None = None) -> Tensor:
    """Convert numbers to a tensor: int64, or float32; on the device of `like`."""
    if isinstance(value, Tensor):
        return value
    device = None if like is None else like.device
    entries = value if isinstance(value, list) else [value]
    if all(isinstance(one, (int, float, bool)) for one in entries):
        return torch.tensor(value, device=device)
    parts = [torch.scalar_tensor(one, dtype=torch.int64, device=device) for one in entries]
    return torch.stack(parts) if isinstance(value, list) else parts[0]


def numbers_of(node: Node, value: Any) -> list[Any]:
    """Return an input as a list of numbers. Raises CaptureError for a tensor that is computed from values."""
    if isinstance(value, Tensor):
        raise node.refuse("its shape, axes or sizes are computed from the values of a tensor; make them constant")
    return list(value) if isinstance(value, list) else [value]
