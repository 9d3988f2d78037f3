"""Import elementwise arithmetic, comparisons and logic, on tensors and on sizes.

Sources: the pages https://onnx.ai/onnx/operators/onnx__NAME.html of the operators registered here.
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..node import Node, is_number, operator, tensor_of

COMPARISONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "Equal": (torch.eq, python.eq),
    "Less": (torch.lt, python.lt),
    "LessOrEqual": (torch.le, python.le),
    "Greater": (torch.gt, python.gt),
    "GreaterOrEqual": (torch.ge, python.ge),
    "And": (torch.logical_and, lambda a, b: bool(a and b)),
    "Or": (torch.logical_or, lambda a, b: bool(a or b)),
    "Xor": (torch.logical_xor, lambda a, b: bool(a) != bool(b)),
}


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return a // b if not isinstance(a, int) or not isinstance(b, int) or (a >= 0) == (b > 0) else -(-a // b)


def _divide(a: Any, b: Any) -> Any:
    whole = all(not x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, int) for x in (a, b))
    return torch.div(a, b, rounding_mode="trunc") if whole else torch.div(a, b)


BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "Add": (python.add, python.add),
    "Sub": (python.sub, python.sub),
    "Mul": (python.mul, python.mul),
    "Div": (_divide, _quotient),
    **COMPARISONS,
}
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Exp": torch.exp,
    "Log": torch.log,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sign": torch.sign,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Not": torch.logical_not,
    "IsNaN": torch.isnan,
}


def of_numbers(function: Callable[..., Any], *values: Any) -> Any:
    """Apply a function to numbers, entry by entry where one is a list."""
    lengths = [len(one) for one in values if isinstance(one, list)]
    if not lengths:
        return function(*values)
    length = 0 if 0 in lengths else max(lengths)
    rows = [one if isinstance(one, list) and len(one) == length else _repeated(one, length) for one in values]
    return [function(*entries) for entries in zip(*rows, strict=True)]


def _repeated(value: Any, length: int) -> list[Any]:
    return [value[0] if isinstance(value, list) else value] * length


def operands(*values: Any) -> tuple[Any, ...]:
    """Return values of which lists are tensors, and lone numbers stay numbers."""
    like = next((one for one in values if isinstance(one, Tensor)), None)
    return tuple(tensor_of(one, like) if isinstance(one, list) else one for one in values)


@operator(*BINARY)
def binary(node: Node, a: Any, b: Any) -> Any:
    """Import an operator of two values, broadcast as numpy does."""
    of_tensors, of_host = BINARY[node.kind]
    if is_number(a) and is_number(b):
        return of_numbers(of_host, a, b)
    a, b = operands(a, b)
    if node.kind in COMPARISONS or (node.kind == "Div" and is_number(a)):
        a, b = (tensor_of(a, b), b) if is_number(a) else (a, b if node.kind == "Div" else tensor_of(b, a))
    return of_tensors(a, b)


@operator(*UNARY)
def unary(node: Node, x: Any) -> Any:
    """Import an operator of one value."""
    if not is_number(x):
        return UNARY[node.kind](x)
    exact: dict[str, Callable[..., Any]] = {"Neg": python.neg, "Abs": abs, "Not": python.not_}
    if node.kind in exact:
        return of_numbers(exact[node.kind], x)
    return of_numbers(lambda one: _scalar(node, one), x)


def _scalar(node: Node, value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise node.refuse("it computes with a size that varies with the batch")
    return float(UNARY[node.kind](torch.tensor(value, dtype=torch.float32)))


@operator("Pow", numbers=())
def power(node: Node, base: Any, exponent: Any) -> Any:
    """Import `Pow`, whose result has the type of the base."""
    if is_number(base) and is_number(exponent):
        return of_numbers(pow, base, exponent)
    base, exponent = operands(base, exponent)
    found: Tensor = torch.pow(base, exponent)
    return found if is_number(base) or found.dtype == base.dtype else found.to(base.dtype)


@operator("Mod")
def modulo(node: Node, a: Any, b: Any) -> Any:
    """Import `Mod`: with the sign of the divisor, or with fmod of the dividend."""
    if is_number(a) and is_number(b):
        return of_numbers(lambda x, y: np.fmod(x, y).item() if node.get("fmod", 0) else x % y, a, b)
    a, b = operands(a, b)
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Min", "Max", "Sum", "Mean")
def several(node: Node, *values: Any) -> Any:
    """Import an operator of any number of values."""
    if all(is_number(one) for one in values) and node.kind in ("Min", "Max"):
        return of_numbers(min if node.kind == "Min" else max, *values) if len(values) > 1 else values[0]
    like = next((one for one in values if isinstance(one, Tensor)), None)
    tensors = [tensor_of(one, like) for one in values]
    if node.kind in ("Sum", "Mean"):
        total = reduce(python.add, tensors)
        return total if node.kind == "Sum" else total / len(tensors)
    return reduce(torch.minimum if node.kind == "Min" else torch.maximum, tensors)


@operator("Where")
def where(node: Node, condition: Any, a: Any, b: Any) -> Any:
    """Import `Where`."""
    if is_number(condition) and is_number(a) and is_number(b):
        return of_numbers(lambda chosen, x, y: x if chosen else y, condition, a, b)
    condition, a, b = operands(condition, a, b)
    like = next(one for one in (condition, a, b) if isinstance(one, Tensor))
    a, b = _same_type(a, b)
    return torch.where(tensor_of(condition, like), a, b)


def _same_type(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a lone number as a tensor of the other's type."""
    if isinstance(a, Tensor) == isinstance(b, Tensor):
        return (a, b) if isinstance(a, Tensor) else (tensor_of(a), tensor_of(b))
    if isinstance(a, Tensor):
        return a, torch.full((), b, dtype=a.dtype, device=a.device)
    return torch.full((), a, dtype=b.dtype, device=b.device), b
