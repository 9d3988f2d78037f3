"""Describe the input tensors of a network: names in `forward`, which are required, dtypes.

It separates inputs from labels in a batch, and sets the floating type of the inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..errors import BackendError, CaptureError
from .calling import Inputs, arguments, tensors_of

LABELS = ("labels", "label", "targets", "target", "y", "classes", "class", "label_ids", "ground_truth", "gt")
PARALLEL = nn.DataParallel, nn.parallel.DistributedDataParallel
_CAST = "give net.float() and compress that, and cast the ONNX file afterwards: prunec cast --fp16 or --bf16"


@dataclass(frozen=True)
class Signature:
    """Inputs of a network, in order."""

    where: str
    """Name in errors: `Net.forward`."""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Parameters that are None by default."""
    types: tuple[torch.dtype | None, ...] = ()
    """Declared types of the required inputs."""
    floating: torch.dtype = torch.float32
    """Type that undeclared floating-point inputs are cast to."""
    open: bool = False
    """True for any number of inputs: then inputs and labels are ambiguous."""
    positional: tuple[str, ...] = ()
    """All positional parameters, in order, also those that take no tensor."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the required and optional inputs."""
        return (*self.required, *self.optional)

    @property
    def needed(self) -> int:
        """Count the inputs in a batch without names; 1 where all are optional."""
        return max(1, len(self.required))

    def type_of(self, name: str) -> torch.dtype | None:
        """Return the declared type of an input; None without."""
        return dict(zip(self.required, self.types, strict=False)).get(name)

    def keywords(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names to pass these inputs by; empty where positions suffice."""
        return () if names == self.positional[: len(names)] else names

    def __str__(self) -> str:
        return f"{self.where} takes {', '.join(self.required or self.optional[:1]) or 'no tensor'}"


ANY = Signature("the network", open=True)


def signature_of(model: nn.Module | ExportedProgram, example_inputs: Inputs | None = None) -> Signature:
    """Return the inputs of a network, or of `example_inputs`; ANY if unknown."""
    floating = floating_type(model) or torch.float32
    if example_inputs is not None:
        return _of_example(example_inputs, floating)
    if isinstance(model, ExportedProgram):
        return _of_exported(model, floating)
    inner = unwrapped(model)
    if isinstance(declared := getattr(inner, "takes", None), Signature):
        return declared
    try:
        parameters = inspect.signature(inner.forward).parameters.values()
    except (TypeError, ValueError):  # code without a Python signature
        parameters = None
    if not parameters or any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return Signature("the network", floating=floating, open=True)
    given = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
    required = [one for one in given if one.default is one.empty]
    return Signature(
        f"{type(inner).__name__}.forward",
        tuple(one.name for one in required),
        tuple(one.name for one in given if one.default is None),
        floating=floating,
        positional=tuple(one.name for one in given if one.kind is not one.KEYWORD_ONLY),
    )


def floating_type(model: nn.Module | ExportedProgram) -> torch.dtype | None:
    """Return the dtype of the first floating-point parameter, or else buffer; None without."""
    found = (list(model.parameters()), list(model.buffers()))
    return next((one.dtype for listed in found for one in listed if one.is_floating_point()), None)


def rows_of_embeddings(model: nn.Module | ExportedProgram) -> int | None:
    """Return the rows of the smallest embedding; None without.

    Every index below is valid in all embeddings.
    """
    if isinstance(model, ExportedProgram):
        return None
    tables = [one for one in model.modules() if isinstance(one, (nn.Embedding, nn.EmbeddingBag))]
    return min((one.num_embeddings for one in tables), default=None)


def require_precision(model: nn.Module | ExportedProgram) -> None:
    """Raise CaptureError for a network of parameters in half precision."""
    for name, value in model.named_parameters():
        if value.is_floating_point() and value.dtype not in (torch.float32, torch.float64):
            kind = str(value.dtype).removeprefix("torch.")
            raise CaptureError(
                f"the network computes in {kind} ({name} is of that dtype), too coarse for what is measured and solved"
                f" here: {_CAST}"
            )


def require_runnable(model: nn.Module | ExportedProgram) -> None:
    """Raise BackendError for convolutions in float64, for which ONNX Runtime has no code."""
    for name, value in model.named_parameters():
        if value.dtype == torch.float64 and value.dim() > 2:
            raise BackendError(
                f"the network computes in float64 ({name} is of that dtype), and ONNX Runtime has no such convolution:"
                " give net.float()"
            )


def advice_on_types(model: nn.Module, tensors: tuple[Tensor, ...]) -> str:
    """Return advice where the input dtypes do not match the weights, else ""."""
    floating = floating_type(model)
    odd = [one.dtype for one in tensors if floating is not None and one.dtype != floating]
    if not odd and rows_of_embeddings(model) is not None and all(one.is_floating_point() for one in tensors):
        return "it has an embedding, which takes integers: give tokens as int64 (--input-shape 20:int64)"
    if not odd:
        return ""
    given, wanted = (str(one).removeprefix("torch.") for one in (odd[0], floating))
    return (
        f"the inputs are {given} and the weights {wanted}: if the network does not take {given}, give"
        f" inputs.to(torch.{wanted}), scaled as it was trained"
    )


def _of_example(example_inputs: Inputs, floating: torch.dtype) -> Signature:
    args, kwargs = arguments(example_inputs)
    plain = not args and all(isinstance(one, Tensor) for one in kwargs.values())
    tensors = tensors_of((args, kwargs))
    names = tuple(kwargs) if plain else tuple(f"input {number}" for number in range(1, len(tensors) + 1))
    types = tuple(one.dtype for one in tensors)
    return Signature("the network, by its example_inputs,", names, (), types, floating, positional=names)


def _of_exported(program: ExportedProgram, floating: torch.dtype) -> Signature:
    found = exported_inputs(program)
    types = tuple(value.dtype for value in found.values())
    return Signature("the exported program", tuple(found), (), types, floating, positional=tuple(found))


def exported_inputs(program: ExportedProgram) -> dict[str, Tensor]:
    """Return the fake tensors of an exported program's inputs, by name."""
    names = set(program.graph_signature.user_inputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    return {name: value for name, value in values.items() if name in names and isinstance(value, Tensor)}


def unwrapped(model: Any) -> Any:
    """Return the network inside DataParallel, DistributedDataParallel and torch.compile."""
    # ends: each round takes off one of finitely many wrappers
    while isinstance(model, PARALLEL) or type(model).__name__ == "OptimizedModule":
        model = model.module if isinstance(model, PARALLEL) else model._orig_mod
    return model


def is_label(name: str) -> bool:
    """Return whether a key or an optional parameter is named as labels are."""
    return name.lower() in LABELS


def keyed(value: object) -> Mapping[str, Any] | None:
    """Return the named values of a mapping, namedtuple or dataclass; else None."""
    if isinstance(value, Mapping):
        return {str(key): one for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    fields = getattr(type(value), "__dataclass_fields__", None)
    return None if fields is None else {name: getattr(value, name) for name in fields}
